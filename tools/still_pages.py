"""Sphinx extension: pages hold no state of widgets.

MyST-NB puts the state of all widgets of a notebook on its page, for scripts that would bring them
to life. Our pages have no such scripts (see ``nb_ipywidgets_js`` in ``_config.yml``) and show
pictures instead, so what would be left is a large block of data that nothing reads.
"""

__all__ = ["drop_widget_states"]


def drop_widget_states(app, env) -> None:
    """Take the states from what the pages will hold."""
    for page in env.nb_metadata.values():
        page.get("js_files", {}).pop("ipywidgets_state", None)


def setup(app) -> dict[str, bool]:
    app.connect("env-updated", drop_widget_states)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
