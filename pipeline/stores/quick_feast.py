"""
Feast, imported without its run-time type instrumentation.

Feast decorates its declarations with `typeguard.typechecked`, which rewrites each of them while it is imported:
about half of the 8 CPU seconds of `import feast`, in every task that touches a feature. Our declarations come from
the contracts and are tested, so we import the modules as they are written. Every module of ours that uses Feast
imports this one first; where Feast is already there (its own command line), nothing happens.
"""

import sys

import typeguard


def _as_written(target=None, **_options):
    return target if target is not None else _as_written


if "feast" not in sys.modules:
    _instrumenting = typeguard.typechecked
    typeguard.typechecked = _as_written
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = _instrumenting

if __name__ == "__main__":
    # `python -m pipeline.stores.quick_feast serve ...` is the command `feast serve ...`, up some seconds sooner.
    from feast.cli.cli import cli

    cli()
