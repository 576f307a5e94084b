"""``python -m glmtui``."""

from glmtui.cli.main import main

raise SystemExit(main())
