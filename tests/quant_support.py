"""What tests of quantisation share."""

import pytest

from glmtui.quant.cpu.build import find_compilers

needs_compiler = pytest.mark.skipif(not find_compilers(), reason="there is no C compiler here")
