"""The core of the catalogue proved in Coq, for all inputs, and the audit that checks it.

`registry` says which Coq theorems serve which theorem of the catalogue; `audit` builds and judges
them; ``python -m tinygrad_rnn.proofs.formal audit`` does it from the command line.
"""
