"""``python -m glmtui``."""

from glmtui.cli import main

raise SystemExit(main())
