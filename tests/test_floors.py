"""No app of the platform needs one that needs it: whatever the order of the floors, there is
one."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def test_apps__import_each_other_in_no_circle() -> None:
    """Every import counts, those inside functions and those for types alone too."""
    graph = grimp.build_graph("noregret", cache_dir=None)
    apps = graph.find_children("noregret")
    assert {"noregret.rest", "noregret.learning", "noregret.openapi"} <= apps
    for app in apps:
        graph.squash_module(app)
    imported = {app: graph.find_modules_directly_imported_by(app) & (apps - {app}) for app in apps}
    assert len([app for app in apps if imported[app]]) > 10
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' <- '.join(error.args[1])}")
