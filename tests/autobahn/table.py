#!/usr/bin/env python2.7
"""Reads a report of the Autobahn TestSuite and prints a table of its sections.

It runs under the suite's own Python 2.7, since it asks the suite which cases there should be: a case
without a result counts as failed.
"""

from __future__ import print_function, unicode_literals

import argparse
import io
import json
import os
import re
import sys

from autobahntestsuite.case import CaseBasename, Cases, CaseCategories, CaseSetname, CaseSubCategories
from autobahntestsuite.caseset import CaseSet

# In the order of the columns; whatever else the suite says of a case is a failure.
GOOD = ["OK", "NON-STRICT", "INFORMATIONAL"]
AGENT = "server"
REASON_LENGTH_MAX = 300
# Of a subsection of 13: (no context takeover asked for, largest window in bits or 0) of each offer.
OFFERS = re.compile(r"client offers \([^)]*\): (\[.*?\])")


def main():
    options = read_options()
    suite = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
    if len(Cases) != options.whole:
        sys.exit("the suite has %d cases, not %d" % (len(Cases), options.whole))
    with io.open(options.spec, encoding="utf-8") as file:
        expected = suite.parseSpecCases(json.load(file))
    results = read_results(options.report)
    verdicts = [(case, verdict(results.get(case))) for case in expected]
    rows = sections(suite, verdicts)
    failed = [(case, words) for case, words in verdicts if words not in GOOD]

    print_table(rows)
    for kind in GOOD[1:]:
        names = [case for case, words in verdicts if words == kind]
        if names:
            print("%s: %s" % (kind, ", ".join(names)))
    for case, words in failed:
        print("FAILED %s: %s%s" % (case, words, reason(options.report, results.get(case))))
    if options.record:
        with io.open(options.record, "w", encoding="utf-8") as file:
            file.write(markdown(options, rows, verdicts, failed))
    sys.exit(1 if failed else 0)


def read_options():
    options = argparse.ArgumentParser(description="Prints a table of a report of the Autobahn TestSuite.")
    options.add_argument("--mode", required=True, help="the name of this choice of cases")
    options.add_argument("--suite", required=True, help="the suite's version")
    options.add_argument("--whole", required=True, type=int, help="how many cases the suite has")
    options.add_argument("--spec", required=True, help="what the suite was told to run")
    options.add_argument("--record", help="where to write the table, as Markdown")
    options.add_argument("report", help="the suite's folder of reports")
    return options.parse_args()


def read_results(folder):
    path = os.path.join(folder, "index.json")
    if not os.path.exists(path):
        return {}
    with io.open(path, encoding="utf-8") as file:
        return json.load(file).get(AGENT, {})


def verdict(result):
    """How a case went: one of GOOD, or words for what was wrong with it."""
    if result is None:
        return "no result"
    if result["behavior"] not in GOOD:
        return result["behavior"].lower()
    if result["behaviorClose"] not in GOOD:
        return "closing: " + result["behaviorClose"].lower()
    return result["behavior"]


def reason(folder, result):
    """What the suite says of a case; not for the record, since it may tell of times and bytes."""
    if result is None:
        return ""
    path = os.path.join(folder, os.path.splitext(result["reportfile"])[0] + ".json")
    with io.open(path, encoding="utf-8") as file:
        report = json.load(file)
    words = "; ".join(report[key] for key in ("result", "resultClose", "wasNotCleanReason") if report.get(key))
    return " (%s)" % words[:REASON_LENGTH_MAX] if words else ""


def sections(suite, verdicts):
    """Rows of section, title and counts; of compression (12 and 13), each subsection has its own."""
    rows = []
    for case, words in verdicts:
        numbers = case.split(".")
        name = ".".join(numbers[:2]) if numbers[0] in ("12", "13") else numbers[0]
        if not rows or rows[-1]["name"] != name:
            title = suite.CaseSubCategories[name] if "." in name else suite.CaseCategories[numbers[0]]
            offers = OFFERS.search(title)
            title = "client offers " + offers.group(1) if offers else title
            rows.append({"name": name, "title": title, "counts": [0] * (len(GOOD) + 2)})
        rows[-1]["counts"][0] += 1
        rows[-1]["counts"][1 + (GOOD.index(words) if words in GOOD else len(GOOD))] += 1
    total = [sum(column) for column in zip(*(row["counts"] for row in rows))]
    return rows + [{"name": "all", "title": "", "counts": total}]


def head():
    return ["section", "cases"] + GOOD + ["FAILED"]


def label(row):
    return " ".join(part for part in (row["name"], row["title"]) if part)


def print_table(rows):
    wide = max(len(label(row)) for row in rows)
    names = head()
    print("  ".join([names[0].ljust(wide)] + names[1:]))
    for row in rows:
        print("  ".join([label(row).ljust(wide)]
                        + [str(count).rjust(len(name)) for name, count in zip(names[1:], row["counts"])]))


def markdown(options, rows, verdicts, failed):
    lines = ["# Autobahn TestSuite",
             "",
             "Written by `tests/autobahn/run %s --record`: autobahntestsuite %s as a fuzzing client, %d of its"
             % (options.mode, options.suite, rows[-1]["counts"][0]),
             "%d cases, against the echo server `examples/ws-echo.rs`." % options.whole,
             "",
             "| " + " | ".join(head()) + " |",
             "| --- |" + " ---: |" * (len(head()) - 1)]
    for row in rows:
        lines.append("| " + " | ".join([label(row)] + [str(count) for count in row["counts"]]) + " |")
    for kind in GOOD[1:]:
        names = [case for case, words in verdicts if words == kind]
        if names:
            lines += ["", "%s: %s." % (kind, ", ".join(names))]
    if failed:
        lines += ["", "FAILED:", ""] + ["- %s: %s" % pair for pair in failed]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
