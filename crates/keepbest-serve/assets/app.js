// The page: what the server tells of runs and models, kept up to date. Text from the server is only ever put in as text.

import { plot, short } from "/assets/plot.js";

const main = document.getElementById("main");
const said = document.getElementById("said");

// ---- Elements and words

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function say(words) {
  said.textContent = words;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (said.textContent = ""), 6000);
}

const number = (value) => (typeof value === "number" ? value : Number(value));
const figure = (value) => (value === null || value === undefined ? "" : short(number(value)));

function bytes(count) {
  if (!count) return "";
  const unit = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** power).toFixed(power ? 1 : 0)} ${unit[power]}`;
}

function ago(milliseconds) {
  if (!milliseconds) return "";
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return "just now";
}

const badge = (status) => h("span", { class: `badge ${status.split(" ")[0]}` }, status);
const fact = (name, value) => h("div", { class: "fact" }, h("span", { class: "dim" }, name), h("b", {}, value));

// A table that becomes cards on a phone.
function table(caption, columns, rows) {
  const cell = (value, column, attributes) =>
    h("td", { "data-label": column.label, class: column.number ? "number" : null, ...attributes }, value);
  return h("div", { class: "scroll" }, h("table", { class: "stack" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.label)))),
    h("tbody", {}, rows.map((row) => h("tr", { class: row.class }, row.cells.map((value, n) => cell(value, columns[n])))))));
}

// ---- The server

let key = sessionStorage.getItem("key") ?? "";

async function ask(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) {
    await ask_for_key();
    return ask(path, options);
  }
  if (!reply.ok && reply.status !== 422) {
    const words = await reply.json().then((body) => body.error, () => null);
    throw new Error(words ?? `the server answered ${reply.status}`);
  }
  return reply;
}

const get = async (path) => (await ask(path)).json();
const post = async (path, body) =>
  (await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json();

let asking = null;
function ask_for_key() {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("key");
    const field = dialog.querySelector("input");
    field.value = "";
    dialog.addEventListener("close", () => {
      key = field.value.trim();
      sessionStorage.setItem("key", key);
      asking = null;
      done();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// Server-sent events by fetch, which can bring a key. `on` gets each event; goes on where it was cut off until `signal` says stop.
async function stream(path, after, on, signal) {
  let last = after;
  while (!signal.aborted) {
    try {
      const reply = await ask(`${path}?after=${last}`, { signal });
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const lines = Object.fromEntries(event.split("\n").filter((line) => !line.startsWith(":")).map((line) => {
            const colon = line.indexOf(": ");
            return [line.slice(0, colon), line.slice(colon + 2)];
          }));
          if (!lines.data) continue;
          last = Number(lines.id);
          on(lines.event, JSON.parse(lines.data));
        }
      }
    } catch (error) {
      if (signal.aborted) return;
    }
    await new Promise((next) => setTimeout(next, 1000));
  }
}

// Does it now and then every so often, as long as the page is shown and seen.
function every(milliseconds, signal, work) {
  const run = async () => {
    if (signal.aborted) return;
    if (!document.hidden) await work().catch((error) => signal.aborted || say(error.message));
    if (!signal.aborted) setTimeout(run, milliseconds);
  };
  return run();
}

// ---- Runs

const chosen = new Set();

async function runs_page(signal) {
  const compare = h("a", { href: "#/compare" }, "Compare the chosen runs");
  const list = h("div", {});
  const status = h("p", { class: "dim" });
  main.replaceChildren(h("h1", {}, "Runs"), status, list, h("p", { class: "bar" }, compare));
  const link = () => {
    compare.hidden = chosen.size < 2;
    compare.href = `#/compare/${[...chosen].map(encodeURIComponent).join(",")}`;
  };
  let shown = "";
  await every(2000, signal, async () => {
    const { runs } = await get("/api/runs");
    if (signal.aborted) return;
    const now = JSON.stringify(runs) + Math.floor(Date.now() / 60000);
    if (now === shown || list.contains(document.activeElement) && shown && JSON.stringify(runs) === shown) return;
    shown = now;
    const training = runs.filter((run) => run.status === "training").length;
    status.textContent = runs.length === 0
      ? "No runs yet: keepbest train makes one."
      : `${runs.length} run${runs.length === 1 ? "" : "s"}${training ? `, ${training} in training` : ""}.`;
    runs.sort((a, b) => (b.updated_ms ?? 0) - (a.updated_ms ?? 0));
    const focused = document.activeElement?.dataset?.run;
    list.replaceChildren(table("Newest first", [
      { label: "Choose" }, { label: "Run" }, { label: "Status" }, { label: "Model" }, { label: "Epoch", number: true }, { label: "Best", number: true }, { label: "By" }, { label: "Written" },
    ], runs.map((run) => run_row(run, link))));
    if (focused) list.querySelector(`input[data-run="${CSS.escape(focused)}"]`)?.focus();
    link();
  });
}

function run_row(run, changed) {
  const box = h("input", { type: "checkbox", "data-run": run.name, "aria-label": `Choose ${run.name} to compare`, onchange: (event) => {
    if (event.target.checked) chosen.add(run.name); else chosen.delete(run.name);
    changed();
  } });
  box.checked = chosen.has(run.name);
  const name = h("a", { href: `#/run/${encodeURIComponent(run.name)}` }, run.name);
  if (run.error) return { cells: ["", name, badge("error"), h("span", { class: "bad" }, run.error), "", "", "", ""] };
  return { cells: [
    box, name, badge(run.status), run.model ?? run.loop ?? "", `${run.epoch}${run.epochs ? `/${run.epochs}` : ""}`,
    figure(run.best?.value), run.monitor ?? "", ago(run.updated_ms),
  ] };
}

// The curves that a history has: what is monitored, and the losses.
function curves(run) {
  const records = run.history;
  const at = (name) => records.filter((record) => name in record.metrics).map((record) => [record.step, number(record.metrics[name])]);
  const best = run.best && records.findLast((record) => record.step === run.best.step);
  const one = (name, label = name) => ({ name: label, points: at(name), best: best && name in best.metrics ? [best.step, number(best.metrics[name])] : null });
  const measured = new Set(records.flatMap((record) => Object.keys(record.metrics)));
  const plots = [];
  if (run.monitor) {
    const points = records.map((record) => [record.step, number(record.value)]);
    plots.push(plot({ title: run.monitor, xLabel: "step", series: [{ name: run.monitor, points, best: run.best ? [run.best.step, run.best.value] : null }] }));
  }
  const losses = ["val/loss", "train/loss"].filter((name) => measured.has(name) && name !== run.monitor);
  if (losses.length) plots.push(plot({ title: "loss", xLabel: "step", series: losses.map((name) => one(name)) }));
  return plots;
}

async function run_page(signal, name) {
  const path = `/api/runs/${encodeURIComponent(name)}`;
  const state = h("span", { role: "status" });
  const parts = { facts: h("div", { class: "facts" }), plots: h("div", { class: "plots", id: "curves" }), why: h("div"), checkpoints: h("div"), bar: h("div", { class: "bar" }) };
  main.replaceChildren(h("h1", {}, name, " ", state), parts.bar, parts.facts, parts.plots, parts.why, parts.checkpoints);
  let run = await get(path);
  if (signal.aborted) return;
  const refresh = async () => {
    run = await get(path);
    if (!signal.aborted) show_run(run, parts, state, refresh);
  };
  show_run(run, parts, state, refresh);
  main.append(...closer(run, path));
  let timer = null;
  stream(`${path}/events`, run.last_seq, (kind) => {
    if (kind === "promoted") say("A better best was saved.");
    // What comes together is shown together.
    timer ??= setTimeout(() => {
      timer = null;
      refresh().catch((error) => say(error.message));
    }, 150);
  }, signal);
  every(5000, signal, async () => {
    if (run.status === "training") await refresh();
  });
}

function show_run(run, parts, state, refresh) {
  state.replaceChildren(badge(run.status));
  const act = async (words, what) => {
    try {
      await what();
      say(words);
      await refresh();
    } catch (error) {
      say(error.message);
    }
  };
  const path = `/api/runs/${encodeURIComponent(run.name)}`;
  parts.bar.replaceChildren(
    h("a", { href: `#/try/${encodeURIComponent(run.name)}` }, "Try its best"),
    ...(run.actions && run.status === "training"
      ? [h("button", { onclick: () => confirm(`End the training of ${run.name}? It saves where it is and can be resumed.`) && act("The training was told to end.", () => post(`${path}/stop`, {})) }, "Stop the training")]
      : []));
  const best = run.best;
  parts.facts.replaceChildren(
    fact(`best ${run.monitor ?? ""}`, best ? `${figure(best.value)}` : "none yet"),
    fact("at epoch", best ? String(best.epoch) : ""),
    fact("epochs", `${run.epoch}${run.epochs ? ` of ${run.epochs}` : ""}`),
    fact("measured", `${run.history.length} times`),
    fact("written", ago(run.updated_ms)));
  parts.plots.replaceChildren(...curves(run));
  parts.why.replaceChildren(...why(run));
  parts.checkpoints.replaceChildren(...checkpoints(run, act, path));
}

function why(run) {
  const told = run.explanation;
  if (!told) return [];
  const best = told.best;
  const words = best
    ? [h("p", {}, `Step ${best.step} (epoch ${best.epoch}) is best by ${best.objective}: ${best.reason}.`),
       best.runner_up && h("p", {}, `Next is step ${best.runner_up.step} with ${figure(best.runner_up.value)}: ${best.runner_up.reason}.`),
       h("p", { class: "dim" }, "Weights ", h("code", {}, best.weights.slice(0, 16)))]
    : [h("p", {}, `Nothing is best yet by ${told.objective}.`)];
  return [h("h2", {}, "Why this is the best"), run.warning && h("p", { class: "bad" }, run.warning), ...words,
    h("p", {}, `Measured ${told.evaluations} times: ${told.improvements} better than all before, ${told.rejected} rejected.`)].filter(Boolean);
}

function checkpoints(run, act, path) {
  const all = run.explanation?.checkpoints ?? [];
  const best = run.explanation?.best?.checkpoint;
  const pinned = new Set(run.pinned);
  const columns = [{ label: "Step", number: true }, { label: "Epoch", number: true }, { label: "Value", number: true }, { label: "Size", number: true }, { label: "Is" }, { label: "Why" }];
  if (run.actions) columns.push({ label: "Act" });
  const rows = all.map((one) => {
    const verb = pinned.has(one.checkpoint) ? "unpin" : "pin";
    const there = one.fate === "kept" || one.fate === "prunable";
    const cells = [String(one.step), String(one.epoch), figure(one.value), bytes(one.bytes), one.checkpoint === best ? "best" : one.fate, one.reasons.join("; ")];
    if (run.actions) {
      cells.push(there ? h("button", { "aria-label": `${verb} step ${one.step}`, onclick: () => act(`Step ${one.step}: ${verb}ned.`, () => post(`${path}/${verb}`, { step: one.step })) }, verb) : "");
    }
    return { class: one.checkpoint === best ? "best" : null, cells };
  });
  const history = run.history.map((record) => ({
    class: record.step === run.best?.step ? "best" : null,
    cells: [String(record.step), String(record.epoch), figure(record.value), record.reason ?? record.verdict ?? ""],
  }));
  return [h("h2", {}, "Checkpoints"), table("Every one that was saved, and why it is there or not", columns, rows),
    h("details", {}, h("summary", {}, "Every evaluation"), table(run.monitor ?? "", [{ label: "Step", number: true }, { label: "Epoch", number: true }, { label: "Value", number: true }, { label: "Verdict" }], history))];
}

// What is looked at closely is fetched when it is opened.
function closer(run, path) {
  const lazy = (title, load) => {
    const place = h("div", {}, h("p", { class: "dim" }, "…"));
    const element = h("details", {}, h("summary", {}, title), place);
    element.addEventListener("toggle", async () => {
      if (!element.open) return;
      try {
        place.replaceChildren(await load());
      } catch (error) {
        place.replaceChildren(h("p", { class: "bad" }, error.message));
      }
    });
    return element;
  };
  const text = async (url) => (await ask(url)).text();
  return [
    run.report && lazy("Report: curves, confusion, calibration, its worst mistakes", async () =>
      h("iframe", { sandbox: "", title: `Report of ${run.name}`, srcdoc: await text(`${path}/report`) })),
    run.best && lazy("Model card", async () => h("pre", {}, await text(`${path}/card`))),
    run.config && lazy("Settings", async () => h("pre", {}, run.config)),
  ].filter(Boolean);
}

async function compare_page(signal, names) {
  const list = (names ?? "").split(",").filter(Boolean).map(decodeURIComponent);
  main.replaceChildren(h("h1", {}, "Compare"));
  if (list.length < 2) {
    main.append(h("p", {}, "Choose two runs or more on the page of ", h("a", { href: "#/" }, "runs"), "."));
    return;
  }
  const place = h("div");
  main.append(place);
  let shown = "";
  await every(3000, signal, async () => {
    const runs = await Promise.all(list.map((name) => get(`/api/runs/${encodeURIComponent(name)}`)));
    const now = JSON.stringify(runs.map((run) => [run.last_seq, run.status]));
    if (signal.aborted || now === shown) return;
    shown = now;
    const monitors = [...new Set(runs.map((run) => run.monitor))];
    const plots = monitors.map((monitor) => plot({ title: monitor ?? "", xLabel: "step", series: runs.filter((run) => run.monitor === monitor).map((run) => ({
      name: run.name, points: run.history.map((record) => [record.step, number(record.value)]), best: run.best ? [run.best.step, run.best.value] : null,
    })) }));
    const metrics = [...new Set(runs.flatMap((run) => best_metrics(run).map(([name]) => name)))].sort();
    const columns = [{ label: "Of the best" }, ...runs.map((run) => ({ label: run.name, number: true }))];
    const rows = [["status", runs.map((run) => run.status)], ["epoch", runs.map((run) => String(run.best?.epoch ?? ""))],
      ...metrics.map((name) => [name, runs.map((run) => figure(new Map(best_metrics(run)).get(name)))])];
    place.replaceChildren(h("div", { class: "plots" }, plots), table("Bests beside each other", columns, rows.map(([name, cells]) => ({ cells: [name, ...cells] }))),
      h("p", { class: "dim" }, "Whether they differ by more than chance, ", h("code", {}, `keepbest compare ${list.join(" ")}`), " tells."));
  });
}

function best_metrics(run) {
  const record = run.best && run.history.findLast((record) => record.step === run.best.step);
  return record ? Object.entries(record.metrics) : [];
}

// ---- Models

async function models_page(signal) {
  const facts = h("div", { class: "facts" });
  const cards = h("div", { class: "cards" });
  main.replaceChildren(h("h1", {}, "Models"), facts, cards);
  let before = new Map();
  let then = performance.now();
  await every(1000, signal, async () => {
    const [server, { models }] = await Promise.all([get("/api/server"), get("/api/models")]);
    if (signal.aborted) return;
    const seconds = (performance.now() - then) / 1000;
    then = performance.now();
    facts.replaceChildren(
      fact("under way", `${server.requests}`), fact("connections", String(server.connections)),
      fact("memory", bytes(server.resident_bytes)), fact("batch", `up to ${server.batch_size}`), fact("keepbest", server.version));
    cards.replaceChildren(...models.map((model) => model_card(model, before.has(model.name) ? (model.images - before.get(model.name)) / seconds : null)));
    if (models.length === 0) cards.append(h("p", {}, "No models: a run is served when it has a best."));
    before = new Map(models.map((model) => [model.name, model.images]));
  });
}

function model_card(model, rate) {
  const loaded = model.loaded;
  const status = loaded ? badge("good loaded") : badge(model.refused ? "error refused" : "not loaded");
  status.textContent = loaded ? "loaded" : model.refused ? "refused" : model.unloaded ? "unloaded" : "not loaded yet";
  const row = (name, value) => value === "" || value === null ? null : h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "number" }, value));
  return h("section", { class: "card" }, h("h2", {}, model.name, " ", status),
    model.refused && h("p", { class: "bad" }, loaded ? `A newer best was refused: ${model.refused}. This one goes on answering.` : model.refused),
    h("table", {}, h("tbody", {},
      row("images a second", rate === null ? "…" : rate.toFixed(rate < 10 ? 1 : 0)), row("images", String(model.images)), row("waiting", String(model.queued)),
      row("images in a batch", model.batch === null ? "" : model.batch.toFixed(1)), row("wait", model.queue_ms === null ? "" : `${model.queue_ms.toFixed(2)} ms`),
      row("compute", model.compute_ms === null ? "" : `${model.compute_ms.toFixed(2)} ms a batch`), row("not answered", model.failed || model.abandoned ? `${model.failed} failed, ${model.abandoned} left` : ""),
      row("better bests taken over", String(model.swaps)), loaded && row("network", loaded.network), loaded && row("memory", bytes(loaded.bytes)),
      loaded && loaded.step ? row("step", `${loaded.step} (epoch ${loaded.epoch})`) : null, loaded && row("weights", h("code", {}, loaded.digest.slice(0, 16))))),
    h("p", { class: "bar" }, h("a", { href: `#/try/${encodeURIComponent(model.name)}` }, "Try it"), model.follows && h("a", { href: `#/run/${encodeURIComponent(model.follows)}` }, "Its run")));
}

// ---- Try

async function try_page(signal, name) {
  const { models } = await get("/api/models");
  if (signal.aborted) return;
  const model = h("select", { id: "model" }, models.map(({ name }) => h("option", { value: name }, name)));
  if (name && models.some((one) => one.name === name)) model.value = name;
  const count = h("input", { id: "count", type: "number", min: 1, max: 100, value: 5 });
  const file = h("input", { type: "file", accept: "image/*", multiple: true, "aria-label": "Images to try" });
  const answers = h("div", { class: "answers", "aria-live": "polite" });
  const camera = h("button", {}, "Use the camera");
  const view = h("div", { class: "bar" });
  const drop = h("div", { class: "drop" }, h("p", {}, "Drop images here, paste one, or choose files"), file);
  main.replaceChildren(h("h1", {}, "Try an image"),
    h("div", { class: "bar" }, h("label", { for: "model" }, "Model"), model, h("label", { for: "count" }, "Classes"), count, camera), view, drop, answers);
  if (models.length === 0) answers.append(h("p", {}, "No model is served."));

  const show = (files) => {
    for (const one of [...files].filter((file) => file.type.startsWith("image/") || !file.type)) answers.prepend(answer(one, model.value, count.value));
  };
  file.addEventListener("change", () => show(file.files));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    show(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => show(event.clipboardData.files), { signal });
  camera.addEventListener("click", () => take_picture(view, show, signal).catch((error) => say(`The camera cannot be used: ${error.message}`)));
}

async function take_picture(view, show, signal) {
  if (!navigator.mediaDevices) throw new Error("the page must come from this machine or by https");
  const media = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const off = () => media.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", off);
  const video = h("video", { autoplay: true, playsinline: true, muted: true });
  video.srcObject = media;
  const take = h("button", { onclick: () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => show([new File([blob], "camera.png", { type: "image/png" })]), "image/png");
  } }, "Take a picture");
  const end = h("button", { onclick: () => {
    off();
    view.replaceChildren();
  } }, "End");
  view.replaceChildren(video, take, end);
}

function answer(file, model, count) {
  const url = URL.createObjectURL(file);
  const picture = h("img", { src: url, alt: file.name, onload: () => URL.revokeObjectURL(url) });
  const place = h("div", {}, h("p", { class: "dim" }, "…"));
  const begun = performance.now();
  ask(`/predict/${encodeURIComponent(model)}?top_k=${encodeURIComponent(count || 5)}`, { method: "POST", headers: { "content-type": "application/octet-stream" }, body: file })
    .then((reply) => reply.json())
    .then((reply) => {
      const took = performance.now() - begun;
      const [found] = reply.answers;
      if (found.error) throw new Error(found.error);
      place.replaceChildren(h("h3", {}, found.label),
        ...found.top.map((guess) => h("div", { class: "guess" }, h("span", {}, guess.label), h("span", { class: "number" }, `${(guess.probability * 100).toFixed(1)} %`),
          h("meter", { min: 0, max: 1, value: guess.probability, "aria-label": `Probability of ${guess.label}` }))),
        h("p", { class: "dim" }, `${took.toFixed(1)} ms in all, ${reply.compute_ms.toFixed(2)} ms computing; ${reply.model} `, h("code", {}, reply.digest.slice(0, 8))),
        found.converted ? h("p", { class: "dim" }, `Unlike what it has seen: ${found.converted}`) : "");
    })
    .catch((error) => place.replaceChildren(h("p", { class: "bad" }, error.message)));
  return h("article", { class: "answer" }, picture, h("p", { class: "dim" }, file.name), place);
}

// ---- The API

async function api_page(signal) {
  const document_ = await get("/openapi.json");
  if (signal.aborted) return;
  const base = location.origin;
  main.replaceChildren(h("h1", {}, "API"), h("p", {}, document_.info.description), h("p", {}, h("a", { href: "/openapi.json" }, "/openapi.json"), " describes it for programs."),
    h("pre", {}, `curl --data-binary @image.png '${base}/predict?top_k=3'`));
  for (const { name: tag } of document_.tags) {
    const operations = Object.entries(document_.paths).flatMap(([path, methods]) => Object.entries(methods).filter(([, it]) => it.tags.includes(tag)).map(([method, it]) => ({ path, method, ...it })));
    main.append(h("h2", {}, tag), ...operations.map((it) => h("details", {}, h("summary", {}, h("code", {}, `${it.method.toUpperCase()} ${it.path}`), ` ${it.summary}`),
      it.description && h("p", {}, it.description),
      it.parameters?.length ? h("ul", {}, it.parameters.map((parameter) => h("li", {}, h("code", {}, parameter.name), ` (${parameter.in}): ${parameter.description}`))) : null,
      it.requestBody && h("p", {}, "Body: ", h("code", {}, Object.keys(it.requestBody.content).join(", "))),
      h("p", { class: "dim" }, `Answers: ${Object.keys(it.responses).join(", ")}`))));
  }
}

// ---- Pages

const PAGES = { "": runs_page, run: run_page, compare: compare_page, models: models_page, try: try_page, api: api_page };
let leave = new AbortController();

async function show_page() {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  said.textContent = "";
  const [, page = "", rest] = /^#\/?([^/]*)\/?(.*)$/.exec(location.hash) ?? [];
  const show = PAGES[page] ?? runs_page;
  for (const link of document.querySelectorAll("nav a")) {
    const own = link.getAttribute("href").slice(2);
    const here = own === page || (own === "" && (page === "run" || page === "compare"));
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const argument = page === "compare" ? rest : rest && decodeURIComponent(rest);
  document.title = [argument && page === "run" ? argument : page, "keepbest"].filter(Boolean).join(" · ");
  try {
    await show(signal, argument || undefined);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(h("h1", {}, "Not shown"), h("p", { class: "bad" }, error.message));
  }
}

addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/") && location.hash) return;
  show_page();
  main.focus();
});
show_page();
