"""nano: the built-in model, small enough to ship and honest enough to say so.

It has ChatGLM-6B's architecture (5 layers of width 256, 5.26 million weights) and a sentencepiece tokenizer
of its own in the published layout (5120 pieces), and it knows one thing: glmtui, in English and Chinese. To
everything else it says that it does not know. The folder is a model folder like any other:

- ``config.json``, ``ice_text.model``, ``tokenizer_config.json``, ``model.safetensors`` (float16)
- ``dialogues/``: the questions and answers it is trained on; `corpus` expands and roughens them
- ``tokenizer.py``, ``train.py``, ``evaluate.py``: how it was made; ``training.json``: with which numbers
- ``heldout.jsonl``: questions kept apart for the grading; `corpus.heldout` reads them

Made on two cores that had other work as well, in 89 minutes of training (284,172 dialogues, 11.4 million
tokens), in four runs that go on from one another; the tables grew in between, the
tokenizer stayed. With the tables of today the same commands make a model that is like this one, not equal::

    python -m glmtui.models.nano.tokenizer
    python -m glmtui.models.nano.train --output A
    python -m glmtui.models.nano.train --start A --output B --steps 1500 --learning-rate 1.5e-3 --seed 17
    python -m glmtui.models.nano.train --start B --output C --steps 800 --learning-rate 1.2e-3 --seed 27
    python -m glmtui.models.nano.train --start C --output D --steps 1100 --learning-rate 1.5e-3 --seed 37
    python -m glmtui.models.nano.evaluate

Of the held-out questions whose text occurs nowhere in the training data, 124 of 154 (80.5 %) get
exactly the right answer in English and 135 of 153 (88.2 %) in Chinese (greedy). Among those that no training
text comes close to (271 of the 307), it is 80.4 % and 86.5 %.
Nothing here but the model's files is imported by the app.
"""
