"""Tiny Amps: learn a guitar amp with an LSTM, prune it, and run what is left in real time.

The modules follow the paper "Pruning Deep Neural Network Models of Guitar Distortion Effects"
(Südholt, Wright, Erkut and Välimäki, 2022) in the order in which data flows through them.
"""

__version__ = "0.1.0"
