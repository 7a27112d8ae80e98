"""The page as a whole: one HTML file that needs nothing beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files

from tuning.report.markup import Html, element, joined
from tuning.report.outcome import facts, outcome
from tuning.report.sections import Section, sections
from tuning.report.subject import Subject

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What a browser may do for the page: nothing is fetched, whatever a name contains."""


def document(subject: Subject) -> str:
    """Return the report on a study."""
    parts = sections(subject)
    study = subject.study
    started = datetime.fromtimestamp(study.started / 1000, tz=UTC)
    what = (
        f"{subject.model_title} on {subject.title}, study {study.name}, {started:%d %B %Y}, "
        f"{study.status}"
    )
    header = element(
        "header",
        element("p", what, class_="what"),
        element("h1", f"{outcome(subject)}."),
        facts(subject),
        element(
            "nav", *(element("a", s.title, href=f"#{s.name}") for s in parts), aria_label="sections"
        ),
    )
    footer = element(
        "footer",
        "Made from the record in MLflow alone. To look at that: ",
        element("code", study.location),
        f" (run {study.run_id}). The data of the pictures lie beside this page there.",
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{study.name}: {subject.model_title} on {subject.title}"),
        element("style", _resource("page.css")),
    )
    body = element(
        "body",
        header,
        element("main", *map(_section, parts)),
        footer,
        element("script", _resource("page.js")),
    )
    return "<!DOCTYPE html>\n" + joined([element("html", head, body, lang="en")]) + "\n"


def _section(section: Section) -> Html:
    return element("section", element("h2", section.title), section.body, id=section.name)


def _resource(name: str) -> Html:
    return Html(files("tuning.report").joinpath(name).read_text(encoding="utf-8"))
