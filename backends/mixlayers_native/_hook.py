"""Hatch's build hook: compile the passes while a wheel or an editable install is made."""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Without a compiler the wheel is one for every machine, as before."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and have the wheel hold the library."""
        build = runpy.run_path(str(Path(__file__).with_name("_build.py")))
        if missing := build["build"]():
            self.app.display_warning(f"mixlayers' compiled passes are left out: {missing}")
        else:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"], build_data["pure_python"] = f"py3-none-{platform}", False
            build_data["artifacts"].append(f"/{build['LIBRARY'].relative_to(self.root)}")
