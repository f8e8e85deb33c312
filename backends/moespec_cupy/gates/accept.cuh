// The random acceptance of a second choice.
#pragma once

template <class V> __device__ inline bool accepted(V share, V times, V by, V uniform) { return share * times / by > uniform; }
