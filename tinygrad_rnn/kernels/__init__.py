"""The cells over time as compiled loops: arrays in, arrays out.

Each of `rnn`, `gru` and `lstm` has two functions, forward and backward; `elementwise` and `matmul`
are what they are made of. Importing them loads Numba, so whoever uses them imports them late.
"""
