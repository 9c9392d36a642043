#!/usr/bin/env python3
"""Opens a run's report.html in a real browser (Chromium): the plotted best is the journal's best, and the page fits.

At 390 and 1,280 pixels, light and dark: the star of each curve stands where the journal's best evaluation is drawn, nothing
is wider than the page, every image is decoded, and nothing was fetched. The standalone plots open too. With --pictures DIR
the pages are left there as PNG files, to be looked at.
"""

import argparse
import html
import json
import re
import subprocess
import sys
from pathlib import Path

PROBE = """<script>
addEventListener("load", () => {
  const middle = (e) => { const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  const curves = [...document.querySelectorAll("figure")].filter((f) => f.querySelector(".best[data-step]")).map((f) => {
    const star = f.querySelector(".best[data-step]");
    const dots = [...f.querySelectorAll(".dot.val")];
    const dot = dots.find((d) => d.dataset.step === star.dataset.step);
    return { id: f.id, step: Number(star.dataset.step), value: Number(star.dataset.value), star: middle(star), dot: middle(dot),
             points: dots.map((d) => [Number(d.dataset.step), Number(d.dataset.value), middle(d)[1]]) };
  });
  const found = {
    curves, width: innerWidth, content: document.documentElement.scrollWidth,
    images: [...document.images].map((i) => i.naturalWidth),
    fetched: performance.getEntriesByType("resource").map((r) => r.name).filter((n) => !n.startsWith("data:")),
    ground: getComputedStyle(document.body).backgroundColor,
    table: document.querySelector("#evaluations tr.best td:nth-child(2)").textContent,
  };
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""


def browse(page, width, height, *more):
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}",
               "--virtual-time-budget=5000", *more, page.as_uri()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120).stdout.decode()


def check(holds, words):
    if not holds:
        sys.exit(f"report: {words}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keepbest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    work = args.work.resolve()
    # A rate that is too high at the end, so that the best is not the last.
    train = "train --name run --epochs 6 --seed 3 --lr 0.2 --schedule constant --quiet".split()
    subprocess.run([args.keepbest, *train], cwd=work, check=True)
    subprocess.run([args.keepbest, "report", "run", "--plots", "plots"], cwd=work, check=True, stdout=subprocess.DEVNULL)
    run = work / "runs" / "run"
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    best = [event for event in events if event["event"] == "promoted" and event["ref"] == "best"][-1]["step"]
    measured = {event["step"]: event["metrics"] for event in events if event["event"] == "evaluated"}
    check(best != max(measured), "the run was to get worse again after its best")

    probed = work / "probed.html"
    probed.write_text((run / "report.html").read_text().replace("</body>", PROBE + "</body>"))
    for width in (1280, 390):
        for dark in (False, True):
            how = ["--blink-settings=preferredColorScheme=0"] if dark else []
            dom = browse(probed, width, 3000, "--dump-dom", *how)
            found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S).group(1)))
            named = f"{width} pixels, {'dark' if dark else 'light'}"
            check([curve["id"] for curve in found["curves"]] == ["monitor", "loss"], f"{named}: curves {found['curves']}")
            for curve, metric in zip(found["curves"], ["val/accuracy", "val/loss"]):
                check(curve["step"] == best, f"{named}: the star is at step {curve['step']}, the journal's best at {best}")
                check(curve["value"] == measured[best][metric], f"{named}: the star has {curve['value']}")
                # The star's five points are not even about its middle: a pixel and a half.
                off = [abs(a - b) for a, b in zip(curve["star"], curve["dot"])]
                check(max(off) < 1.5, f"{named}: the star is {off} pixels away from its evaluation")
                check({step: value for step, value, _ in curve["points"]} == {s: m[metric] for s, m in measured.items()},
                      f"{named}: the points are not the journal's")
                by_value = sorted(curve["points"], key=lambda point: point[1])
                heights = [point[2] for point in by_value]
                check(heights == sorted(heights, reverse=True), f"{named}: higher values must stand higher")
            check(found["table"] == str(best), f"{named}: the table marks step {found['table']}")
            check(found["content"] <= found["width"], f"{named}: {found['content']} pixels wide")
            check(len(found["images"]) > 20 and min(found["images"]) == 28, f"{named}: images {found['images']}")
            check(not found["fetched"], f"{named}: fetched {found['fetched']}")
            check((found["ground"] == "rgb(255, 255, 255)") != dark, f"{named}: the ground is {found['ground']}")
            if args.pictures:
                args.pictures.mkdir(parents=True, exist_ok=True)
                picture = args.pictures.resolve() / f"report-{width}-{'dark' if dark else 'light'}.png"
                browse(run / "report.html", width, 2600 if width > 400 else 7600, f"--screenshot={picture}", *how)
    plots = sorted((work / "plots").glob("*.svg"))
    check(len(plots) == 8, f"{len(plots)} plots")
    for plot in plots:
        dom = browse(plot, 600, 500, "--dump-dom")
        check("<style>" in dom and "parsererror" not in dom, f"{plot.name} is no SVG")
    print(f"report: in Chromium the plotted best is the journal's (step {best}), at 390 and 1280 pixels, light and dark")


main()
