"""What a character model needs around its mixture layer, forward and backward, in plain NumPy: LSTM, cross-entropy, Adam."""

import numpy as np
from scipy.special import expit


def lstm(x, w, b):
    """One LSTM layer from a zero state.

    x [time, batch, D]; w [D + H, 4H] and b [4H], the columns input, forget, output gate, candidate.  h [time, batch, H] and what
    backward needs.
    """
    time, batch, width = *x.shape[:2], len(b) // 4
    h, c = np.zeros((time + 1, batch, width), x.dtype), np.zeros((time + 1, batch, width), x.dtype)
    gates = x @ w[:x.shape[2]] + b                                  # the input's part, of every step at once
    for t in range(time):
        gates[t] += h[t] @ w[x.shape[2]:]
        gates[t, :, :3 * width] = expit(gates[t, :, :3 * width])
        gates[t, :, 3 * width:] = np.tanh(gates[t, :, 3 * width:])
        i, f, o, g = np.split(gates[t], 4, axis=1)
        c[t + 1] = f * c[t] + i * g
        h[t + 1] = o * np.tanh(c[t + 1])
    return h[1:], (x, w, h, c, gates)


def lstm_backward(saved, dh):
    """Gradients of x, w and b."""
    x, w, h, c, gates = saved
    dz, into_h, into_c = np.empty_like(gates), np.zeros_like(h[0]), np.zeros_like(c[0])
    for t in reversed(range(len(x))):
        i, f, o, g = np.split(gates[t], 4, axis=1)
        end, dht = np.tanh(c[t + 1]), dh[t] + into_h
        dc = into_c + dht * o * (1 - end**2)
        dz[t] = np.concatenate([dc * g * i * (1 - i), dc * c[t] * f * (1 - f), dht * end * o * (1 - o), dc * i * (1 - g**2)], axis=1)
        into_h, into_c = dz[t] @ w[x.shape[2]:].T, dc * f
    flat = dz.reshape(-1, dz.shape[2])
    dw = np.concatenate([a.reshape(-1, a.shape[2]).T @ flat for a in (x, h[:-1])])
    return dz @ w[:x.shape[2]].T, dw, flat.sum(0)


def embed_backward(ids, dx, size):
    """The gradient of a table of `size` rows, of which row ids[t, b] was read for x[t, b]."""
    dtable = np.zeros((size, dx.shape[-1]), dx.dtype)
    np.add.at(dtable, ids, dx)
    return dtable


def cross_entropy(logits, target):
    """Mean negative log-likelihood in nats, and the gradient of the logits [T, V]."""
    shifted = logits - logits.max(1, keepdims=True)
    total = np.exp(shifted).sum(1, keepdims=True)
    at = np.arange(len(target)), target
    d = np.exp(shifted) / total
    d[at] -= 1
    return float((np.log(total[:, 0]) - shifted[at]).mean(dtype=np.float64)), d / len(target)


class Adam:
    """Adam (Kingma and Ba 2015) with a linear warm-up, and then a rate that falls with the square root of the step."""

    def __init__(self, params, rate, warmup):
        self.rate, self.warmup, self.step = rate, warmup, 0
        self.m, self.v = ({n: np.zeros_like(p) for n, p in params.items()} for _ in range(2))

    def update(self, params, grads):
        """The parameters after one step: new arrays."""
        self.step += 1
        rate, moved = self.rate * min(self.step / self.warmup, (self.warmup / self.step) ** 0.5), {}
        for name, p in params.items():
            g, m, v = grads[name], self.m[name], self.v[name]
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            scale = rate / (1 - 0.9**self.step)
            moved[name] = p - (scale * m / (np.sqrt(v / (1 - 0.999**self.step)) + 1e-8)).astype(p.dtype)
        return moved
