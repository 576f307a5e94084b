"""``glmtui doctor``: what this machine offers, what would be used, and why."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from glmtui import paths, streams
from glmtui.cli.options import add_model_options, load_settings
from glmtui.errors import UserError
from glmtui.i18n import N_, _, ngettext, tell
from glmtui.protocol.models import RemoteModel
from glmtui.settings.settings import Settings
from glmtui.text.columns import table
from glmtui.text.units import size
from glmtui.version import __version__

PACKAGES = (
    "torch", "transformers", "textual", "sentencepiece", "safetensors", "accelerate", "huggingface_hub",
    "starlette", "uvicorn", "cpm_kernels",
)  # fmt: skip
CPU_FLAGS = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm",
    "bf16",
)  # fmt: skip
"""The instruction sets that make a difference to the products."""

Report = dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Show what this machine offers, what would be used, and why. Copy it into a bug report."
    )
    parser.add_argument("--json", action="store_true", help=_("print JSON"))
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Print the report; return 0 if a model can run with these options, else 1."""
    report = examine(load_settings(args, quietly=True))
    if args.json:
        streams.output().json(report, indent=1)
    else:
        for line in lines(report):
            streams.output().line(line)
    return 0 if report["use"]["ok"] else 1


def examine(settings: Settings) -> Report:
    """Look at everything; a part that cannot be looked at says so instead of raising."""
    import platform

    from glmtui import host

    memory = host.memory()
    return {
        "glmtui": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": {
            "name": host.cpu_name(),
            "cores": host.usable_cores(),
            "features": [flag for flag in CPU_FLAGS if flag in host.cpu_flags()],
        },
        "memory": {"free": memory.free, "total": memory.total},
        "devices": _devices(),
        "kernels": _kernels(),
        "models": _models(),
        "quantized": _quantized(),
        "paths": {
            N_("config"): settings.path,
            N_("conversations"): paths.data_dir() / "conversations",
            N_("state"): paths.state_dir(),
            N_("cache"): paths.cache_dir(),
            N_("themes"): paths.themes_dir(),
        },
        "settings": [tell(problem) for problem in settings.problems] or "ok",
        "use": _use(settings),
    }


def lines(report: Report) -> list[str]:
    """Lay the report out for people."""

    def row(title: str, *values: object) -> tuple[str, str]:
        return title, " · ".join(str(value) for value in values if value not in (None, "", []))

    def memory(memory: Report) -> str:
        return _("{free} free of {total}").format(free=size(memory["free"]), total=size(memory["total"]))

    cpu, use = report["cpu"], report["use"]
    versions = [f"{name} {version or _('missing')}" for name, version in report["packages"].items()]
    packages = [row("" if at else _("packages"), *versions[at : at + 3]) for at in range(0, len(versions), 3)]
    result = [
        row("glmtui", report["glmtui"]),
        row("Python", report["python"]),
        row(_("system"), report["system"]),
        *packages,
        row(
            _("processor"),
            cpu["name"],
            _("{count} cores").format(count=cpu["cores"]),
            " ".join(cpu["features"]),
        ),
        row(_("memory"), memory(report["memory"])),
    ]
    for device in report["devices"]:
        mark = "✓" if device["available"] else "✗"
        result.append(
            row(
                f"{mark} {device['device']}",
                device["name"],
                memory(device["memory"]) if device["available"] else "",
                device["reason"],
            )
        )
    kernels = report["kernels"]
    openmp = _("with OpenMP") if kernels["openmp"] else _("without OpenMP")
    result.append(row(_("kernels"), kernels["implementation"], openmp, kernels["reason"]))
    result.append(row(_("compilers"), *kernels["compilers"] or [_("none found")]))
    result += [
        row(_("downloaded"), model["name"], size(model["bytes"]), model["path"]) for model in report["models"]
    ]
    result += [
        row(_("quantised"), model["source"], f"int{model['bits']}", size(model["bytes"]), model["path"])
        for model in report["quantized"]
    ]
    result += [row(_(title), path) for title, path in report["paths"].items()]
    if report["settings"] != "ok":
        result += [row(_("settings"), problem) for problem in report["settings"]]
    result.append(row(""))
    if "server" in use:
        result.append(row(_("would use"), use["model"], use["server"]))
    elif use["ok"]:
        threads = ngettext("{count} thread", "{count} threads", use["threads"]).format(count=use["threads"])
        values = (
            use["model"],
            use["device"],
            _("not quantised") if use["quant"] == "none" else f"INT{use['quant']}",
            use["dtype"],
            threads,
        )
        result.append(row(_("would use"), *values))
    else:
        result.append(row(_("cannot use"), use["model"]))
    result += [row("", note) for note in use["notes"]]
    return table(result)


def _devices() -> list[Report]:
    from glmtui.engine import device as devices

    found: list[Report] = []
    for kind in devices.ORDER:
        try:
            device = devices.probe(kind)
        except (ImportError, OSError) as error:  # a broken torch
            found.append({"device": kind, "name": "", "available": False, "reason": str(error), "memory": {}})
            continue
        found.append(
            {
                "device": kind,
                "name": device.name,
                "available": device.available,
                "reason": tell(device.reason),
                "memory": {"free": device.memory.free, "total": device.memory.total},
            }
        )
    return found


def _kernels() -> Report:
    """What multiplies quantised weights on the CPU; compiled now if they never were."""
    try:
        from glmtui.quant import cpu
        from glmtui.quant.cpu.build import find_compilers

        status = cpu.status()
    except (ImportError, OSError) as error:  # a broken torch
        return {"implementation": None, "openmp": False, "reason": str(error), "compilers": []}
    return {
        "implementation": status.implementation,
        "openmp": status.threaded,
        "reason": tell(status.reason),
        "compilers": find_compilers(),
    }


def _models() -> list[Report]:
    """The known models in the local hub cache."""
    from glmtui.hub import cache as hub_cache
    from glmtui.hub import catalog

    found = ((model, hub_cache.find(model.hub_ids)) for model in catalog.KNOWN)
    return [{"name": model.name, "path": path, "bytes": model.file_bytes} for model, path in found if path]


def _quantized() -> list[Report]:
    """The quantised models in the cache, which ``glmtui quantize --clear-cache`` deletes."""
    try:
        from glmtui.quant import cache
    except (ImportError, OSError):  # a broken torch, of which the devices tell
        return []
    entries = cache.list_cache()
    return [
        {"source": each.source, "bits": each.bits, "bytes": each.nbytes, "path": each.path}
        for each in entries
    ]


def _use(settings: Settings) -> Report:
    """What a start with these options would run, or why it could not."""
    spec = settings.model_spec()
    if isinstance(spec, RemoteModel):
        told = _("{server} is asked; whether it answers shows when it is used").format(server=spec.base_url)
        return {"ok": True, "model": spec.name, "server": spec.server, "notes": [told]}
    try:
        from glmtui.engine import loader
        from glmtui.hub import memory_estimate

        plan = loader.plan(spec)
    except (UserError, ImportError, OSError) as error:
        return {"ok": False, "model": spec.source or "nano", "notes": [tell(error)]}
    reason = tell(plan.place.reason)
    if plan.place.kind == "cpu":
        reason = _("no GPU can be used") if spec.device == "auto" else _("you asked for it")
    return {
        "ok": True,
        "model": str(plan.folder.path),
        "device": plan.place.kind,
        "quant": plan.quant,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "threads": plan.threads,
        "memory": plan.needed,
        "notes": [
            _("{device}, because {reason}").format(device=plan.place.kind, reason=reason),
            _("about {needed} of memory with {count} tokens of context").format(
                needed=size(plan.needed), count=f"{memory_estimate.ESTIMATED_CONTEXT:,}"
            ),
        ],
    }


def _version(package: str) -> str | None:
    from importlib import metadata  # slow, and `glmtui --help` has no use for it

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
