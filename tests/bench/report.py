# SPDX-License-Identifier: MIT
"""From records to medians and factors, and to a page of Markdown."""

import json
import statistics

import cases

NOT_MEASURED = ("workload", "case", "label", "rep", "took", "error")


# ---- medians and factors ---------------------------------------------------------------

def summarise(result):
    """One entry for each row of each table."""
    records = result["records"]
    known = {(c.workload, c.name): c for c in cases.cases(result["about"]["ours"])}
    summary = []
    for key in dict.fromkeys((r["workload"], r["case"], r["label"]) for r in records):
        rows = [r for r in records if (r["workload"], r["case"], r["label"]) == key]
        good = [r for r in rows if "error" not in r]
        entry = dict(zip(("workload", "case", "label"), key), reps=len(good))
        entry.update({"error": r["error"] for r in rows if "error" in r})
        if good:
            entry.update(medians(good))
            add_metric(entry, good, known.get(key[:2]), records)
        summary.append(entry)
    for entry in summary:
        add_best(entry, summary, known.get((entry["workload"], entry["case"])))
    return summary


def medians(rows):
    names = [n for n in rows[0] if n not in NOT_MEASURED]
    values = {n: statistics.median(r[n] for r in rows if n in r) for n in names}
    if "lost" in values:
        values["lost"] = sum(r["lost"] for r in rows)
    if "foreign" in values:
        values["foreign"] = max(r["foreign"] for r in rows)
    return values


def metric_of(entry, case):
    if case:
        return case.metric
    return {"command": "p50"}.get(entry["workload"])


def add_metric(entry, rows, case, records):
    metric = metric_of(entry, case)
    if not metric:
        return
    values = [r[metric] for r in rows]
    entry["by_rep"] = {str(r["rep"]): r[metric] for r in rows}
    entry.update(median=statistics.median(values), least=min(values), most=max(values))
    if case and case.floor:
        ratios = floor_ratios(rows, metric, case.floor, records)
        if ratios:
            entry["vs_floor"] = statistics.median(ratios)
        if "flushes" in entry and syncs_show(records):
            entry["early"] = entry["flushes"] < 0.9 / cases.most_in_a_sync(case)


def floor_ratios(rows, metric, floor, records):
    """Each to the floor of its own repetition."""
    name, key = floor.split(":")
    floors = {r["rep"]: r[key] for r in records_of_floor(name, records)}
    return [r[metric] / floors[r["rep"]] for r in rows if r["rep"] in floors]


def records_of_floor(name, records):
    return [r for r in records
            if r["workload"] == "M0" and r["case"] == name and "error" not in r]


def syncs_show(records):
    """Whether each fdatasync flushes the device, as it does not without a cache."""
    floors = records_of_floor(cases.APPEND, records)
    return bool(floors) and all(r.get("flushes", 0) > 0.9 for r in floors)


def add_best(entry, summary, case):
    """The ratio to the best fair peer of the same table."""
    if not case or not case.rows or "median" not in entry:
        return
    peers = {r.label for r in case.rows if r.fair and r in cases.PEERS}
    others = [e for e in summary if e["workload"] == entry["workload"] and
              e["case"] == entry["case"] and e["label"] in peers and "median" in e]
    if others:
        best = max if case.metric == "rate" else min
        entry["vs_best"] = rep_ratio(entry, best(others, key=lambda e: e["median"]))


def rep_ratio(a, b):
    """The median of the ratios within each repetition; None if none is in both."""
    of_a, of_b = a.get("by_rep", {}), b.get("by_rep", {})
    ratios = [of_a[rep] / of_b[rep] for rep in of_a if of_b.get(rep)]
    return statistics.median(ratios) if ratios else None


# ---- Markdown --------------------------------------------------------------------------

def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def span(entry):
    return f"{number(entry['least'])} - {number(entry['most'])}"


def factor(value):
    return "-" if value is None else f"{value:.2f}"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def markdown(result):
    about, summary = result["about"], result["summary"]
    lines = head(about)
    lines += bars(about, summary)
    for case in cases.cases(about["ours"]):
        if case.rows:
            case_lines = transfer_table if cases.is_transfer(case) else case_table
            lines += case_lines(case, summary)
    lines += beside_table(summary) + reflink_table(summary)
    lines += load_table(summary) + command_table(summary) + memory_table(about, summary)
    lines += flood_table(summary) + floor_table(summary) + disk_floor_table(summary)
    lines += file_floor_table(summary)
    lines += server_table(about) + noise(summary)
    return "\n".join(lines) + "\n"


def head(about):
    lines = [
        f"# ipcd measured beside its peers, {about['date']}", "",
        f"Linux {about['kernel']}, {about['cpus']} x {about['cpu']}. {about['reps']} "
        f"repetitions of {about['seconds']} s, interleaved"
        f"{', quick' if about['quick'] else ''}; {about['took']} s in all.", "",
        "Medians; the range is that of the repetitions. *x floor*: divided by the floor "
        "that the heading names, of the same repetition. *x best*: divided by the best "
        "safe peer. Only such ratios within one run mean something: see "
        "tests/bench/README.md.",
    ]
    if about.get("disk"):
        lines += ["", f"M5 and M6 keep their files in {about['disk']}. There a "
                  f"measurement of M5 takes {about['disk_seconds']} s; M6 hands over a "
                  f"file of {about.get('file_mib', 0):,} MiB, once in each."]
    return lines


def find(summary, workload, case, label):
    for entry in summary:
        if (entry["workload"], entry["case"], entry["label"]) == (workload, case, label):
            return entry
    return {}


def bars(about, summary):
    rows = []
    for bar in cases.BARS:
        row = bar.row or about["ours"][0]
        ours = find(summary, bar.workload, bar.case, row)
        other = find(summary, bar.workload, bar.case, bar.against) if bar.against else {}
        value = rep_ratio(ours, other) if bar.against else ours.get(bar.metric)
        if value is None:
            continue
        by_cpu = ratio(cpu_of(other), cpu_of(ours)) if bar.against else None
        flaw = flaw_of(ours)
        rows.append([bar.what, compared_with(bar), number(value),
                     flaw or verdict(value, bar.bar, bar),
                     flaw or verdict(value, bar.goal, bar), factor(by_cpu)])
    if not rows:
        return []
    return ["", "## The project's bars", "",
            "By CPU time: how many times more of it the other needs for a message, server"
            " and clients together. Foreign load disturbs it less than a rate.", ""] + \
        table(["", "compared with", "measured", "first bar", "goal", "by CPU time"], rows)


def compared_with(bar):
    if bar.metric == "vs_floor":
        return "x its floor"
    return f"x {bar.against}" if bar.against else "-"


def ratio(a, b):
    return a / b if a is not None and b else None


def cpu_of(entry):
    return entry["us_server"] + entry["us_clients"] if "us_server" in entry else None


def flaw_of(entry):
    """Why its figure is worth nothing."""
    if entry.get("lost"):
        return "**loses messages**"
    return "**answers early**" if entry.get("early") else ""


def verdict(value, limit, bar):
    if limit is None:
        return "-"
    met = value >= limit if bar.higher_is_better else value <= limit
    return f"{number(limit)} {'met' if met else '**missed**'}"


def entries_of(summary, workload, case):
    entries = [e for e in summary if (e["workload"], e["case"]) == (workload, case)]
    good = [e for e in entries if e["reps"]]
    return good, [e for e in entries if not e["reps"]]


def failures(entries):
    return [f"\n{e['label']} failed: {e.get('error')}" for e in entries]


def case_table(case, summary):
    entries, failed = entries_of(summary, case.workload, case.name)
    if not entries and not failed:
        return []
    entries.sort(key=lambda e: e["median"], reverse=case.metric == "rate")
    durable = case.workload == "M5"
    latency = case.metric == "p50" or durable
    heads = ["", case.unit, "range", "x floor", "x best"] + ["p99 us"] * latency + [
        "CPU us: server", "clients"] + ["flushes"] * durable + ["lost"]
    rows = [[e["label"], number(e["median"]), span(e),
             factor(e.get("vs_floor")), factor(e.get("vs_best"))]
            + [number(e["p99"])] * latency
            + [number(e["us_server"]), number(e["us_clients"])]
            + [number(e.get("flushes")) + " **early**" * e.get("early", 0)] * durable
            + [number(e.get("lost"))]
            for e in entries]
    floor = case.floor.split(":")[0]
    return ["", f"## {case.workload} {case.name}", "", f"Floor: {floor}.", ""] + \
        table(heads, rows) + failures(failed)


TRANSFER_HEADS = ["CPU s: server", "clients"]


def transfer_cells(entry):
    return [number(entry[who] / 1e6) for who in ("us_server", "us_clients")]


def transfer_table(case, summary):
    good, failed = entries_of(summary, case.workload, case.name)
    if not good:
        return failures(failed)
    good.sort(key=lambda e: e["median"], reverse=case.metric == "rate")
    other, unit = ("seconds", "s") if case.metric == "rate" else ("rate", "GB/s")
    rows = [[e["label"], number(e["median"]), span(e), factor(e.get("vs_floor")),
             factor(e.get("vs_best")), number(e[other])] + transfer_cells(e)
            for e in good]
    floor = case.floor.split(":")[0]
    heads = ["", case.unit, "range", "x floor", "x best", unit] + TRANSFER_HEADS
    return ["", f"## {case.workload} {case.name}", "", f"Floor: {floor}.", ""] + \
        table(heads, rows) + failures(failed)


def beside_table(summary):
    good, failed = entries_of(summary, "M6", cases.BESIDE)
    if not good:
        return failures(failed)
    keys = ("alone", "beside", "factor", "p99_alone", "p99_beside")
    rows = [[f"{e['label']}: {what}s"] + [number(e[f"{what}_{key}"]) for key in keys]
            for e in good for what in ("ping", "send")]
    heads = ["", "alone, p50 us", "beside", "factor", "alone, p99 us", "beside"]
    return ["", f"## M6 {cases.BESIDE}", "",
            "One client, one after the other, until both large ones have gone through.",
            ""] + table(heads, rows) + failures(failed)


def reflink_table(summary):
    good, failed = entries_of(summary, "M6", cases.REFLINK)
    if not good:
        return failures(failed)
    small, large = (f"{good[0][size] / 2 ** 20:,.0f} MiB, ms"
                    for size in ("small_bytes", "large_bytes"))
    rows = [[e["label"], number(e["small_ms"]), number(e["large_ms"]), factor(e["ratio"])]
            for e in good]
    return ["", f"## M6 {cases.REFLINK}", "",
            "As a copy to a queue in memory, but on btrfs or xfs in a file. The ratio is "
            "1 where it costs the same however large the file is.", ""] + \
        table(["", small, large, "ratio"], rows) + failures(failed)


def load_table(summary):
    good, failed = entries_of(summary, "M5", cases.LOAD)
    if not good:
        return failures(failed)
    n = good[0]["messages"]
    rows = [[e["label"], number(e["before"]), number(e["full"]), number(e["per_message"]),
             number(e["loaded"]), number(e["loaded_per_message"]),
             number(e["disk_per_message"]), number(e["answer_seconds"]),
             number(e["all_seconds"])] for e in good]
    return ["", f"## M5 load: {n:,.0f} durable messages of 100 bytes", "",
            "KiB resident, and by how many bytes a message it has grown; then the server "
            "is killed and started with them. Its files are in the page cache.", ""] + \
        table(["", "before", "all in", "bytes a message", "started with all",
               "bytes a message", "on disk, bytes a message", "start to first answer, s",
               "to all there, s"], rows) + failures(failed)


def command_table(summary):
    entries, failed = entries_of(summary, "command", cases.COMMAND)
    if not entries:
        return failures(failed)
    entries.sort(key=lambda e: e["median"])
    floor = find(summary, "command", cases.COMMAND, cases.COMMANDS[0][0]).get("median")
    rows = [[e["label"], f"{e['median'] / 1e3:.2f}",
             f"{e['least'] / 1e3:.2f} - {e['most'] / 1e3:.2f}", f"{e['p99'] / 1e3:.2f}",
             factor(ratio(e["median"], floor))] for e in entries]
    return ["", "## A command from start to end", "",
            "The medians of some hundred runs each.", ""] + \
        table(["", "median ms", "range", "p99 ms", "x true"], rows) + failures(failed)


def memory_table(about, summary):
    good, failed = entries_of(summary, "M7", cases.MEMORY)
    if not good:
        return failures(failed)
    heads = ["", "idle: resident KiB", "private", "Pss"]
    for n in about["connections"]:
        heads += [f"KiB per connection, {n:,}", "private"]
    rows = []
    for e in good:
        cells = [e["label"], number(e["rss"]), number(e["private"]), number(e["pss"])]
        for n in about["connections"]:
            cells += [number(e[f"per_{n}"]), number(e[f"private_per_{n}"])]
        rows.append(cells + [number(e["start_ms"])])
    return ["", "## M7 memory of the server, idle connections, start", "",
            "Each connection has had its first exchange. What the kernel keeps for "
            "sockets is not in it.", ""] + \
        table(heads + ["start to first answer, ms"], rows) + failures(failed)


def flood_table(summary):
    good, failed = entries_of(summary, "M7", cases.FLOOD)
    if not good:
        return failures(failed)
    n = good[0]["messages"]
    rows = [[e["label"], number(e["before"]), number(e["full"]), number(e["after"]),
             number(e["per_message"])] for e in good]
    return ["", f"## M7 memory after {n:,.0f} messages of 100 bytes", "",
            "Private KiB. redis streams keep entries until they are trimmed.", ""] + \
        table(["", "before", "all in", "all out", "bytes a message"], rows) + \
        failures(failed)


def floors(summary, those):
    names = [case.name for case in those]
    return [e for e in summary
            if e["workload"] == "M0" and "median" in e and e["case"] in names]


def disk_floor_table(summary):
    entries = floors(summary, cases.DISK_FLOORS)
    rows = [[e["case"], number(e["rate"]), span(e), number(e["p50"]), number(e["p99"]),
             number(e.get("flushes"))] for e in entries]
    return ["", "## M0 floors: the disk", "",
            "Each fdatasync waits for the disk. Overwriting leaves the file as large as "
            "it was.", ""] + \
        table(["records of 256 bytes", "records/s", "range", "p50 us", "p99 us",
               "flushes a record"], rows) if rows else []


def file_floor_table(summary):
    entries = floors(summary, cases.FILE_FLOORS)
    rows = [[e["case"], number(e["seconds"]), number(e["rate"]), span(e)]
            + transfer_cells(e) for e in entries]
    return ["", "## M0 floors: a file", "",
            "Into a new file. *stream* is a socket pair, from and to memory.", ""] + \
        table(["", "s", "GB/s", "range"] + TRANSFER_HEADS, rows) if rows else []


def floor_table(summary):
    entries = floors(summary, cases.FLOORS + cases.HANDOVER_FLOORS)
    rows = [[e["case"], number(e["p50"]), span(e), number(e["p99"]), number(e["rate"])]
            for e in entries]
    return ["", "## M0 floors", ""] + \
        table(["100 bytes there and back, or a descriptor there", "p50 us", "range",
               "p99 us", "a second"], rows) if rows else []


def server_table(about):
    rows = [[name, *words] for name, words in about["servers"].items()]
    lines = ["", "## Who took part", ""] + table(
        ["", "version", "as configured", "in M5; ipcd: in M6, too"], rows)
    if about["left_out"]:
        lines += [""] + [f"- left out: {name}, {why}"
                         for name, why in about["left_out"].items()]
    return lines


def noise(summary):
    noisy = [e for e in summary if e.get("foreign", 0) > 0.15]
    text = (f"Noise: in {len(noisy)} of {len(summary)} rows a repetition lost over 15 % "
            "of the machine to others (kernel threads and stolen time included)")
    if noisy:
        text += ": " + ", ".join(f"{e['case']} / {e['label']} {e['foreign']:.0%}"
                                 for e in noisy[:12])
    return ["", text + "."]


def as_json(result):
    """One record a line, so that differences can be read."""
    def lines(entries):
        return "[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]"
    about = json.dumps(result["about"], indent=1)
    return (f'{{"about": {about},\n"summary": {lines(result["summary"])},\n'
            f'"records": {lines(result["records"])}}}\n')
