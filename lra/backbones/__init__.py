"""The models that an attention plugs into. They import torch only, and know an attention as a module.

A backbone is a file with a subclass of `classifier.Classifier`, which writes `build_body`, `body` and `attentions`.
"""
