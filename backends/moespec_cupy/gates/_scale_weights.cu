// One block: the gradient of one number.
KERNEL sum_of_products(const T *x, const T *y, U *sum, i64 size) {
    A mine = 0;
    for (i64 i = threadIdx.x; i < size; i += blockDim.x) mine += (A)widen(x[i]) * (A)widen(y[i]);
    mine = block_sum(mine);
    if (threadIdx.x == 0) *sum = narrow<U>(mine);
}
