"""Make ``vega.js``, the library that draws a page's plots, out of the one that draws plots of weights (`make vega`)."""

from __future__ import annotations

from pathlib import Path

import vl_convert

VEGA_LITE = "5.20"
"""The version of the specifications in ``evalkit/reports``."""
FILE = Path(__file__).resolve().parents[3] / "evalkit/reports/page/vega.js"
HEAD = (
    "/* Vega {vega}, Vega-Lite {lite} and Vega-Embed {embed} with what they rest on (D3, others), bundled; "
    "BSD-3-Clause and ISC, see vega.LICENSE. Made by `make vega`. */\n"
)


def bundle() -> str:
    """The whole file."""
    versions = {
        "vega": vl_convert.get_vega_version(),
        "lite": f"{VEGA_LITE}.1",
        "embed": vl_convert.get_vega_embed_version(),
    }
    script: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE
    )
    return HEAD.format(**versions) + script


if __name__ == "__main__":
    FILE.write_text(bundle(), encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")
