"""The report as one self-contained HTML page: no scripts, no external resources, all text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from aerogel.inspect import figures
from aerogel.inspect.report import Report
from aerogel.inspect.section import Table

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.875rem; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; }
th.word, td.word { text-align: left; }
.scroll { overflow-x: auto; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: 0.875rem; }
@media print { h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


def page(report: Report, images: Mapping[str, Mapping[str, tuple[bytes, str]]]) -> str:
    """The HTML page.

    Args:
        report: source of texts and tables.
        images: PNG file and caption, by name of the section and of the plot.
    """
    record, path = report.subject.checkpoint.record, str(report.subject.checkpoint.path)
    facts = [f"method {record.method}", f"task {record.task or 'none'}", f"scope {record.scope}"]
    facts += [f"{name} {value:.4f}" for name, value in record.metrics.items()]
    body = [
        f"<h1>{escape(path)}</h1>",
        f'<p class="note">{escape(", ".join(facts))}</p>',
        "<h2>Summary</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in report.summary) + "</ul>",
    ]
    for name, section, finding in report.findings:
        body.append(f"<h2>{escape(section.title)}</h2>")
        body += [_table(table) for table in finding.tables]
        body += [f'<p class="note">{escape(note)}</p>' for note in finding.notes]
        for image, caption in images.get(name, {}).values():
            text = escape(caption)
            body.append(
                f'<figure><img src="{figures.data_uri(image)}" alt="{text}"><figcaption>{text}</figcaption></figure>'
            )
    # Defense in depth: even if a text were unescaped, the policy allows no scripts and no external resources.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(path)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    def cells(tag: str, texts: tuple[str, ...] | list[str]) -> str:
        made = (
            f"<{tag}{' class=word' if number < table.words else ''}>{escape(text)}</{tag}>"
            for number, text in enumerate(texts)
        )
        return f"<tr>{''.join(made)}</tr>"

    rows = "".join(cells("td", row) for row in table.rows)
    head = cells("th", table.header)
    return (
        f'<div class="scroll"><table><caption>{escape(table.title)}</caption>'
        f"<thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )
