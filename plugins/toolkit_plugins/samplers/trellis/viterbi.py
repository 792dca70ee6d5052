"""Compiled loops of the trellis: when bits are sent, the search, and the decoder's walk.

The state is the last nu of a segment's bits, the newest lowest.
An element that sends b bits moves state s to ``(s << b | bits) mod 2^nu``; its value is
``codebook[offset + state]``. So the 2^nu values that an element can take lie side by side, and so
do the states that one choice of old bits leads to: all inner loops run over contiguous arrays.
"""

from __future__ import annotations

import numba
import numpy as np

RATE_BITS = 24
"""Rates are whole multiples of 2^-24 bits an element."""
MAX_STEP = 8
"""Most bits that one element sends."""

_CARRY = (MAX_STEP + 1) << RATE_BITS


@numba.njit(cache=True, nogil=True)
def emissions(rates, start, out):  # type: ignore[no-untyped-def]
    """Bits that each element of a segment sends, into ``out`` (n, uint8); their sum.

    Their rates (n, int64) add up, from ``1/2 - start``; the whole part of the sum is sent,
    ``MAX_STEP`` at most, and what can't be sent in time is forgotten.
    """
    total = 0
    carry = (1 << (RATE_BITS - 1)) - (start << RATE_BITS)
    for i in range(rates.shape[0]):
        carry = min(carry + rates[i], _CARRY)
        step = max(0, min(carry >> RATE_BITS, MAX_STEP))
        carry -= step << RATE_BITS
        out[i] = step
        total += step
    return total


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _stay(metric, z, a, h):  # type: ignore[no-untyped-def]
    """No bits: every state's cost grows by ``a z^2 - h z``."""
    for s in range(metric.shape[0]):
        metric[s] += z[s] * (a * z[s] - h)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _stay_four(metric, codebook, offsets, a, h):  # type: ignore[no-untyped-def]
    """``_stay`` for four elements at once, so that the costs pass through memory once."""
    states = metric.shape[0]
    z0 = codebook[offsets[0] : offsets[0] + states]
    z1 = codebook[offsets[1] : offsets[1] + states]
    z2 = codebook[offsets[2] : offsets[2] + states]
    z3 = codebook[offsets[3] : offsets[3] + states]
    a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
    h0, h1, h2, h3 = h[0], h[1], h[2], h[3]
    for s in range(states):
        first = z0[s] * (a0 * z0[s] - h0) + z1[s] * (a1 * z1[s] - h1)
        metric[s] += first + (z2[s] * (a2 * z2[s] - h2) + z3[s] * (a3 * z3[s] - h3))


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _send_one(metric, after, choice, z, a, h):  # type: ignore[no-untyped-def]
    """One bit: ``_choose`` and ``_branch`` in one pass, from ``metric`` into ``after``."""
    size = metric.shape[0] >> 1
    first = metric[:size]
    other = metric[size:]
    for q in range(size):
        better = other[q] < first[q]
        best = other[q] if better else first[q]
        choice[q] = np.uint8(better)
        z0 = z[2 * q]
        z1 = z[2 * q + 1]
        after[2 * q] = best + z0 * (a * z0 - h)
        after[2 * q + 1] = best + z1 * (a * z1 - h)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _choose(metric, step, best, choice):  # type: ignore[no-untyped-def]
    """Of the 2^step states that differ in their oldest bits, the cheapest and which it is."""
    size = metric.shape[0] >> step
    first = metric[:size]
    for q in range(size):
        best[q] = first[q]
        choice[q] = 0
    for j in range(1, 1 << step):
        other = metric[j * size : (j + 1) * size]
        code = np.uint8(j)
        for q in range(size):
            better = other[q] < best[q]
            best[q] = other[q] if better else best[q]
            choice[q] = code if better else choice[q]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _branch(best, step, metric, z, a, h):  # type: ignore[no-untyped-def]
    """Each survivor goes on to 2^step states."""
    size = metric.shape[0] >> step
    if step == 2:
        for q in range(size):
            for k in range(4):
                value = z[4 * q + k]
                metric[4 * q + k] = best[q] + value * (a * value - h)
        return
    width = 1 << step
    for q in range(size):
        start = best[q]
        row = metric[q * width : (q + 1) * width]
        values = z[q * width : (q + 1) * width]
        for k in range(width):
            row[k] = start + values[k] * (a * values[k] - h)


@numba.njit(cache=True, nogil=True)
def _trace(choices, steps, first, last, state, nu, symbols, commit):  # type: ignore[no-untyped-def]
    """Follow the survivors back from ``state`` after step ``last - 1`` to step ``first``;
    store the symbols of the steps before ``commit``. Returns the state before ``first``."""
    window = choices.shape[0]
    for t in range(last - 1, first - 1, -1):
        step = int(steps[t])
        if t < commit:
            symbols[t] = state & ((1 << step) - 1)
        rest = state >> step
        state = rest | (int(choices[t % window, rest]) << (nu - step))
    return state


@numba.njit(cache=True, nogil=True)
def search(sends, offsets, a, h, codebook, nu, free, choices, symbols):  # type: ignore[no-untyped-def]
    """Viterbi search for the bits of one segment that make ``sum a c^2 - h c`` least.

    sends, offsets, a (>= 0), h: of its n elements in coding order; the first state is below
    2^free. ``symbols`` (uint8, one for each element that sends bits) gets what they send; returns
    the first state. Of the survivors only the last steps are kept, as many as ``choices`` (window,
    2^nu / 2; uint8) has room for: at its end the best path decides the older half of them. Any
    bits at all are a path, so that this costs a little optimality at worst. Survivors meet after
    some (ln 2^nu)^3 bits, not after a few nu as in channel decoding: windows must be long.
    """
    states = 1 << nu
    window = choices.shape[0]
    metric = np.full(states, np.float32(1e30), np.float32)
    metric[: 1 << free] = 0
    after = np.empty(states, np.float32)
    best = np.empty(states // 2, np.float32)
    steps = np.empty(symbols.shape[0], np.uint8)
    t = 0
    done = 0
    start = 0
    spread = 0.0
    i = 0
    while i < sends.shape[0]:
        z = codebook[offsets[i] : offsets[i] + states]
        step = int(sends[i])
        four = i + 4 <= sends.shape[0] and not sends[i : i + 4].any()
        if four:
            _stay_four(metric, codebook, offsets[i : i + 4], a[i : i + 4], h[i : i + 4])
        elif step == 0:
            _stay(metric, z, a[i], h[i])
        else:
            if t - done == window:
                commit = t - window // 2
                state = _trace(choices, steps, done, t, np.argmin(metric), nu, symbols, commit)
                if done == 0:
                    start = state
                done = commit
            if step == 1:
                _send_one(metric, after, choices[t % window], z, a[i], h[i])
                metric, after = after, metric
            else:
                _choose(metric, step, best, choices[t % window])
                _branch(best, step, metric, z, a[i], h[i])
            steps[t] = step
            t += 1
        for _ in range(4 if four else 1):
            spread += 20 * a[i] + 4.5 * abs(h[i])
            i += 1
        if spread > 2000:  # keep float32 sums short
            metric -= metric.min()
            spread = 0.0
    state = _trace(choices, steps, done, t, np.argmin(metric), nu, symbols, t)
    return start if done else state


@numba.njit(cache=True, nogil=True)
def pack(sends, symbols, free, first, out):  # type: ignore[no-untyped-def]
    """A segment's bits into ``out`` (one a byte): ``free`` of its first state, then the symbols."""
    at = 0
    for k in range(free - 1, -1, -1):
        out[at] = (first >> k) & 1
        at += 1
    t = 0
    for i in range(sends.shape[0]):
        step = int(sends[i])
        if step:
            for k in range(step - 1, -1, -1):
                out[at] = (symbols[t] >> k) & 1
                at += 1
            t += 1


@numba.njit(cache=True, nogil=True)
def walk(sends, offsets, elements, bits, free, nu, codebook, out):  # type: ignore[no-untyped-def]
    """The decoder: read a segment's bits (one a byte), look its values up."""
    mask = (1 << nu) - 1
    state = 0
    for at in range(free):
        state = (state << 1) | int(bits[at])
    at = free
    for i in range(sends.shape[0]):
        for _ in range(int(sends[i])):
            state = (state << 1) | int(bits[at])
            at += 1
        state &= mask
        out[elements[i]] = codebook[offsets[i] + state]
