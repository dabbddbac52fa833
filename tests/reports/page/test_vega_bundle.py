"""The library in the page is the published one, and nothing in it ends a script element or asks a network."""

from __future__ import annotations

import pytest
import vl_convert
from bundle_vega import FILE, bundle


def test_the_file_is_what_the_drawing_library_bundles():
    head = FILE.read_text(encoding="utf-8").partition("\n")[0]
    if vl_convert.get_vega_version() not in head:
        pytest.skip("another version of the drawing library is installed than the one bundled")
    assert FILE.read_text(encoding="utf-8") == bundle()


def test_nothing_in_it_ends_the_script_element_that_holds_it():
    script = FILE.read_text(encoding="utf-8").lower()
    assert "</script" not in script
    assert "<!--" not in script


def test_its_licence_is_beside_it():
    licence = FILE.with_name("vega.LICENSE").read_text(encoding="utf-8")
    assert "University of Washington Interactive Data Lab" in licence
    assert "Mike Bostock" in licence
