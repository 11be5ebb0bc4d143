"use strict";
// The timeline page. Rows are drawn as far as they can be seen, so that tens of thousands of turns stay quick.
const ROW = 24, LEAST = 2, AXIS = 26;
const runs = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const css = {}, probe = document.body.appendChild(Object.assign(document.createElement("i"), {hidden: true}));
let run, rows, view, column = 300, picked = null, critical = false, hits = new Set(), pending = false, drag = null;

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const make = (tag, text = "", name = "") => Object.assign(document.createElement(tag), {textContent: text, className: name});
const state = thing => thing.status || "unfinished";

function time(seconds) {
  if (seconds < 0.9995) return `${seconds >= 0.0095 || !seconds ? Math.round(seconds * 1e3) : +(seconds * 1e3).toPrecision(2)} ms`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60), two = n => String(n).padStart(2, "0");
  return minutes < 100 ? `${minutes} m ${two(whole % 60)} s` : `${Math.floor(minutes / 60)} h ${two(minutes % 60)} m`;
}
function moment(seconds, step) {
  if (!seconds) return "0";
  if (step < 1) { const digits = step < 0.001 ? 2 : 0; return seconds < 1 ? `${(seconds * 1e3).toFixed(digits)} ms` : `${seconds.toFixed(step < 0.001 ? 5 : step < 0.01 ? 3 : step < 0.1 ? 2 : 1)} s`; }
  if (seconds < 60) return `${+seconds.toFixed(3)} s`;
  const minutes = Math.floor(seconds / 60), rest = Math.round(seconds % 60);
  return minutes < 60 ? `${minutes} m${rest ? ` ${rest} s` : ""}` : `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} m` : ""}`;
}

// --- what is shown --------------------------------------------------------------------------------------------------

function choose(index) {
  run = runs[index];
  const above = [];
  run.rows.forEach((row, place) => {
    above[row.depth] = row;
    Object.assign(row, {place, parent: above[row.depth - 1] || null, folds: false, fails: false});
    if (row.parent) row.parent.folds = true;
    row.turns.forEach(turn => { turn.row = row; });
  });
  for (const row of run.rows.toReversed()) if (row.parent && (row.fails || failed(row))) row.parent.fails = true;
  view = {from: 0, to: run.end};
  picked = null;
  $("name").textContent = run.name;
  $("status").textContent = state(run);
  $("status").className = `badge ${state(run)}`;
  $("asked").textContent = run.asked;
  $("asked").title = run.asked;
  document.title = `${run.name} · ${state(run)} · ${time(run.wall)}`;
  const facts = [["time", time(run.wall)], ["work", time(run.work)], ["speed-up", `${run.speedup.toFixed(1)} ×`],
    ["turns", run.turns.toLocaleString("en")], ["events", run.events.toLocaleString("en")]];
  if (run.pauses.length) facts.splice(1, 0, ["paused", time(run.pauses.reduce((all, [, seconds]) => all + seconds, 0))]);
  if (run.tokens) facts.push(["tokens", run.tokens.toLocaleString("en")]);
  if (run.cost) facts.push(["cost", `$${run.cost.toPrecision(2)}`]);
  $("facts").replaceChildren(...facts.map(([name, value]) => {
    const box = make("div");
    box.append(make("dt", name), make("dd", value));
    return box;
  }));
  $("outcomes").replaceChildren(...Object.entries(run.outcomes).flatMap(([name, count]) => [make("i", "", name), `${count.toLocaleString("en")} ${name}`]));
  $("paused").hidden = !run.pauses.length;
  $("error").disabled = !run.rows.some(failed);
  $("find").value = "";
  find();
  close();
  fold();
  $("scroll").scrollTop = 0;
}
function fold() {
  rows = [];
  let hide = Infinity;
  for (const row of run.rows) {
    if (row.depth > hide) continue;
    hide = row.folded ? row.depth : Infinity;
    row.at = rows.push(row) - 1;
  }
  $("size").style.height = `${rows.length * ROW}px`;
  draw();
}
function draw() {
  if (!pending) { pending = true; requestAnimationFrame(() => { pending = false; paint(); }); }
}
function colours() {
  for (const name of ["back", "panel", "line", "grid", "text", "soft", "accent", "pick", "ok", "error", "timeout", "cancelled", "skipped", "unfinished", "paused"]) {
    probe.style.color = `var(--${name})`;
    css[name] = getComputedStyle(probe).color;
  }
  draw();
}
function pen(canvas) {
  const sharp = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * sharp) || canvas.height !== Math.round(height * sharp)) {
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
  }
  const to = canvas.getContext("2d");
  to.setTransform(sharp, 0, 0, sharp, 0, 0);
  to.clearRect(0, 0, width, height);
  return [to, width, height];
}
function steps(width) {
  const least = (view.to - view.from) * 90 / Math.max(width, 1);
  const all = [1, 2, 5].flatMap(n => [-5, -4, -3, -2, -1, 0].map(power => n * 10 ** power)).concat([15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]);
  const step = all.sort((a, b) => a - b).find(each => each >= least) || 604800;
  const ticks = [];
  for (let tick = Math.ceil(view.from / step - 1e-9) * step; tick <= view.to; tick += step) ticks.push(tick);
  return [step, ticks];
}

function paint() {
  const names = Math.min(column, $("chart").clientWidth * .55), top = $("scroll").scrollTop, height = $("scroll").clientHeight;
  const first = Math.max(0, Math.floor(top / ROW)), last = Math.min(rows.length, Math.ceil((top + height) / ROW));
  $("labels").style.width = `${names}px`;
  $("split").style.left = `${names}px`;
  label(first, last, top, names);
  const [to, room, tall] = pen($("bars"));
  const [step, ticks] = steps(room), x = at => (at - view.from) / (view.to - view.from) * room;
  to.fillStyle = css.grid;
  for (const tick of ticks) to.fillRect(Math.round(x(tick)), 0, 1, tall);
  to.fillStyle = css.paused;
  for (const [at] of run.pauses) for (let y = 0; y < tall; y += 4) to.fillRect(Math.round(x(at)) - 1, y, 2, 1.5);
  for (let place = first; place < last; place++) bar(to, rows[place], place * ROW - top, x, room);
  const [ruler, wide] = pen($("axis"));
  ruler.font = "11px system-ui, sans-serif";
  ruler.fillStyle = css.soft;
  ruler.textBaseline = "middle";
  for (const tick of ticks) {
    const at = names + x(tick), words = moment(tick, step);
    if (at + ruler.measureText(words).width + 6 < wide) ruler.fillText(words, at + 4, AXIS / 2);
    ruler.fillRect(Math.round(at), AXIS - 6, 1, 6);
  }
  overview();
}
function label(first, last, top, names) {
  const shown = [];
  for (let place = first; place < last; place++) {
    const row = rows[place], line = make("div", "", `row ${state(row)}`);
    line.style.transform = `translateY(${place * ROW - top}px)`;
    line.style.paddingLeft = `${10 + Math.max(0, Math.min(row.depth * 14, names - 180))}px`; // a name is worth more
    line.id = `row${row.place}`;
    line.setAttribute("role", "treeitem");
    line.setAttribute("aria-level", row.depth + 1);
    line.setAttribute("aria-selected", picked?.row === row);
    line.setAttribute("aria-label", `${row.label}, ${state(row)}, ${time(row.seconds)}${row.note ? `, ${row.note}` : ""}`);
    if (row.folds) line.setAttribute("aria-expanded", !row.folded);
    line.classList.toggle("picked", picked?.row === row);
    line.classList.toggle("top", !row.depth);
    line.classList.toggle("hit", hits.has(row));
    line.append(make("span", row.folds ? (row.folded ? "▶" : "▼") : "", "fold"), make("span", "", "dot"), make("span", row.label, "who"));
    if (row.note) line.append(make("span", row.note, "note"));
    line.append(make("span", row.turns.length ? time(row.seconds) : "skipped", "took"));
    line.title = row.note ? `${row.label}: ${row.note}` : "";
    line.row = row;
    shown.push(line);
  }
  $("labels").replaceChildren(...shown);
  if (picked) $("scroll").setAttribute("aria-activedescendant", `row${picked.row.place}`);
}
function bar(to, row, y, x, width) {
  if (picked?.row === row) { to.fillStyle = css.pick; to.fillRect(0, y, width, ROW); }
  const from = after(row.turns, view.from);
  let edge = -1;
  for (let place = from; place < row.turns.length; place++) {
    const turn = row.turns[place], left = x(turn.began - (turn.queued || 0)), right = Math.max(x(turn.ended), x(turn.began) + LEAST);
    if (left > width) break;
    if (right < edge + .5) continue; // nothing of it could be seen
    edge = right;
    const dim = critical && !turn.critical && turn !== picked?.turn;
    to.globalAlpha = dim ? .28 : 1;
    segments(to, turn, y, x, right);
    if (turn === picked?.turn) { to.strokeStyle = css.accent; to.lineWidth = 2; round(to, x(turn.began) - 2, y + 3, right - x(turn.began) + 4, ROW - 6, 5); to.stroke(); }
    to.globalAlpha = 1;
  }
}
function after(turns, moment) { // the first turn that ends after it
  let low = 0, high = turns.length;
  while (low < high) { const middle = (low + high) >> 1; if (turns[middle].ended < moment) low = middle + 1; else high = middle; }
  return low;
}
function round(to, x, y, width, height, radius) {
  to.beginPath();
  to.roundRect(x, y, Math.max(width, 0), height, Math.min(radius, Math.max(width, 0) / 2));
}
function segments(to, turn, y, x, right) {
  const colour = css[state(turn)], tall = 12, top = y + 6, directs = turn.pieces.some(([kind]) => kind === "children");
  for (const [kind, began, ended] of turn.pieces) {
    const left = x(began), end = kind === "own" || kind === "failed" ? Math.max(x(ended), left + LEAST) : x(ended);
    if (end < 0 || (directs && kind === "own" && x(ended) - left < LEAST)) continue; // a moment between two children
    if (kind === "own" || kind === "failed") { to.fillStyle = kind === "own" ? colour : css.error; round(to, left, top, end - left, tall, 3); to.fill(); }
    else if (kind === "children") { to.fillStyle = colour; to.globalAlpha *= .6; to.fillRect(left, top + 5, end - left, 3); to.globalAlpha /= .6; }
    else if (kind === "queue") { hatch(to, left, top, end - left, tall); }
    else { to.strokeStyle = css.cancelled; to.lineWidth = 2; to.setLineDash([4, 3]); to.beginPath(); to.moveTo(left, top + 6); to.lineTo(end, top + 6); to.stroke(); to.setLineDash([]); }
  }
  if (right - x(turn.began) > 14) {
    to.fillStyle = css.accent;
    for (const call of turn.calls || []) to.fillRect(x(call.began), top + tall - 3, Math.max(1.5, x(call.ended ?? turn.ended) - x(call.began)), 3);
    const ended = {error: "✕", timeout: "✕", cancelled: "◼", paused: "❚❚"}[turn.status];
    to.font = "bold 9px system-ui, sans-serif";
    to.textBaseline = "middle";
    to.fillStyle = css.back;
    if (ended && turn.pieces[turn.pieces.length - 1][0] === "own") to.fillText(ended, right - 11, top + 6.5);
  }
}
function hatch(to, x, y, width, height) {
  to.save();
  round(to, x + .5, y + .5, width - 1, height - 1, 3);
  to.strokeStyle = css.skipped;
  to.globalAlpha *= .75;
  to.lineWidth = 1;
  to.stroke();
  to.clip();
  const left = Math.max(x, -20), right = Math.min(x + width, to.canvas.clientWidth + 20);
  to.beginPath();
  for (let at = left - (left - x) % 6 - height; at < right; at += 6) { to.moveTo(at, y + height); to.lineTo(at + height, y); }
  to.globalAlpha *= .6;
  to.stroke();
  to.restore();
}
function overview() {
  const [to, width, height] = pen($("overview")), x = at => at / run.end * width, most = run.load.reduce((most, [, count]) => Math.max(most, count), 1);
  to.fillStyle = css.ok;
  to.globalAlpha = .3;
  to.beginPath();
  to.moveTo(0, height);
  let level = height;
  for (const [at, count] of run.load) { to.lineTo(x(at), level); level = height - count / most * (height - 14); to.lineTo(x(at), level); }
  to.lineTo(width, level);
  to.lineTo(width, height);
  to.fill();
  to.globalAlpha = 1;
  to.font = "11px system-ui, sans-serif";
  to.fillStyle = css.soft;
  to.textBaseline = "top";
  to.fillText(`at work at once: up to ${most.toLocaleString("en")}`, 18, 3);
  if (view.from > 0 || view.to < run.end) {
    to.fillStyle = css.line;
    to.globalAlpha = .55;
    to.fillRect(0, 0, x(view.from), height);
    to.fillRect(x(view.to), 0, width - x(view.to), height);
    to.globalAlpha = 1;
    to.strokeStyle = css.accent;
    to.lineWidth = 1.5;
    to.strokeRect(x(view.from), .75, Math.max(2, x(view.to) - x(view.from)), height - 1.5);
  }
}

// --- moving about ---------------------------------------------------------------------------------------------------

function show(from, to) {
  const span = clamp(to - from, Math.min(1e-5, run.end), run.end);
  from = clamp(from, 0, run.end - span);
  view = {from, to: from + span};
  draw();
}
function zoom(factor, at = (view.from + view.to) / 2) { show(at - (at - view.from) * factor, at + (view.to - at) * factor); }
function move(share) { const by = (view.to - view.from) * share; show(view.from + by, view.to + by); }
function pick(turn, {scroll = true} = {}) {
  picked = turn;
  for (let above = turn.row.parent; above; above = above.parent) above.folded = false;
  fold();
  tell(); // first: it may take some of the height
  if (scroll) {
    const box = $("scroll"), top = turn.row.at * ROW;
    if (top < box.scrollTop) box.scrollTop = top - ROW;
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * ROW - box.clientHeight;
    if (turn.turn && (turn.turn.ended < view.from || turn.turn.began > view.to)) { const half = (view.to - view.from) / 2; show(turn.turn.began - half, turn.turn.began + half); }
  }
}
const target = (row, turn = row.turns[row.turns.length - 1]) => ({row, turn});
function step(by) {
  const at = clamp((picked ? picked.row.at : by > 0 ? -1 : rows.length) + by, 0, rows.length - 1);
  if (rows[at]) pick(target(rows[at]));
}
function other(by) {
  if (!picked?.turn) return;
  const turns = picked.row.turns, turn = turns[turns.indexOf(picked.turn) + by];
  if (turn) pick({row: picked.row, turn});
}
function toggle(row, folded) { if (row?.folds && !!row.folded !== folded) { row.folded = folded; fold(); } }
function into(turn) { if (turn) { const edge = Math.max((turn.ended - turn.began) * .15, 1e-5); show(turn.began - (turn.queued || 0) - edge, turn.ended + edge); } }
const failed = row => row.turns.some(turn => turn.status === "error" || turn.status === "timeout");
function next(fits, row = picked?.row) {
  const start = row ? row.place + 1 : 0, all = run.rows;
  for (let place = 0; place < all.length; place++) {
    const found = all[(start + place) % all.length];
    if (fits(found)) return found;
  }
}
function fail() { // where it began: a leaf, if one failed
  const found = next(row => failed(row) && !row.fails);
  if (found) pick(target(found, found.turns.find(turn => turn.status === "error" || turn.status === "timeout")));
}
function find() {
  const words = $("find").value.trim().toLowerCase();
  const fits = row => row.label.toLowerCase().includes(words) || row.note.toLowerCase().includes(words)
    || row.turns.some(turn => turn.branch.toLowerCase().includes(words) || (turn.marks || []).some(mark => mark.words.toLowerCase().includes(words)));
  hits = new Set(words ? run.rows.filter(fits) : []);
  $("found").textContent = words ? `${hits.size.toLocaleString("en")} found` : "";
  draw();
}

// --- one turn, in words ---------------------------------------------------------------------------------------------

function tell() {
  const box = $("details"), {row, turn} = picked;
  box.hidden = false;
  const shut = make("button", "×", "close");
  shut.setAttribute("aria-label", "Close");
  shut.onclick = close;
  const title = make("h2", row.label + " "), badge = make("span", turn ? state(turn) : "skipped", `badge ${turn ? state(turn) : "skipped"}`);
  title.append(badge);
  box.replaceChildren(shut, title);
  if (!turn) { box.append(make("p", "Its group ended before it began.", "path")); draw(); return; }
  box.append(make("p", turn.path, "path"));
  const table = make("table"), fact = (name, value) => {
    if (value !== undefined && value !== "" && value !== null) { const line = table.insertRow(); line.insertCell().textContent = name; line.insertCell().textContent = value; }
  };
  const place = row.turns.indexOf(turn);
  fact("turn", row.turns.length > 1 ? `${place + 1} of ${row.turns.length}` : undefined);
  fact("type", turn.type);
  fact("branch", turn.branch);
  fact("iteration", turn.iteration);
  fact("began", `${time(turn.began)} after the run's start`);
  fact("took", time(turn.ended - turn.began));
  fact("own work", turn.own !== undefined ? time(turn.own) : undefined);
  fact("decision", turn.decision);
  fact("queued", turn.queued && time(turn.queued));
  fact("lost", turn.hidden ? "what it said is in no prompt" : undefined);
  fact("critical path", turn.critical ? "yes: the end waited for it" : undefined);
  for (const [name, value] of Object.entries(turn.usage || {})) fact(name, value.toLocaleString("en"));
  box.append(table);
  const wrong = words => { const line = make("p", words, `wrong ${state(turn)}`); box.append(line); };
  if (turn.error) wrong(turn.error); else if (turn.reason) wrong(turn.reason);
  list("Attempts", turn.attempts, each => [each.began, each.error ? "failed" : "attempt", each.error || `${each.number}`]);
  list("Tools", turn.calls, call => [call.began, call.failed ? "failed" : call.ended === undefined ? "no answer" : time(call.ended - call.began), call.name]);
  list("What it said and did", turn.marks, mark => [mark.time, mark.kind, mark.words]);
  box.scrollTop = 0;
  draw();
}
function list(title, items, read) {
  if (!items?.length) return;
  const all = make("ol");
  for (const item of items.slice(0, 500)) {
    const [at, kind, words] = read(item), line = make("li"), said = make("div");
    if (kind !== "said") said.append(make("b", kind));
    said.append(make("span", words));
    line.append(make("time", time(at)), said);
    all.append(line);
  }
  $("details").append(make("h3", items.length > 500 ? `${title} (the first 500 of ${items.length.toLocaleString("en")})` : title), all);
}
function close() { $("details").hidden = true; picked = null; draw(); }

// --- pointer and keys -----------------------------------------------------------------------------------------------

const when = event => view.from + event.offsetX / $("bars").clientWidth * (view.to - view.from);
function under(event) {
  const row = rows[Math.floor((event.offsetY + $("scroll").scrollTop) / ROW)];
  if (!row) return null;
  const near = 3 / $("bars").clientWidth * (view.to - view.from), at = when(event);
  for (let place = after(row.turns, at - near); place < row.turns.length; place++) {
    const turn = row.turns[place];
    if (turn.began - (turn.queued || 0) > at + near) break;
    return {row, turn};
  }
  return {row, turn: undefined};
}
function hint(event) {
  const found = under(event), tip = $("tip");
  tip.hidden = !found?.turn;
  if (tip.hidden) return;
  const {row, turn} = found, last = (turn.marks || []).filter(mark => mark.time <= when(event) && mark.words).pop();
  const facts = [state(turn), time(turn.ended - turn.began)];
  if (turn.queued) facts.push(`queued ${time(turn.queued)}`);
  if (turn.attempts) facts.push(`${turn.attempts.length} attempts`);
  if (turn.iteration) facts.push(`iteration ${turn.iteration}`);
  tip.replaceChildren(make("b", row.label), make("small", facts.join(" · ")));
  if (turn.error || turn.reason) tip.append(make("div", (turn.error || turn.reason).slice(0, 240)));
  else if (last) tip.append(make("div", last.words.slice(0, 160)));
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
}
const bars = $("bars");
bars.addEventListener("pointerdown", event => { if (!event.button) { drag = {x: event.clientX, from: view.from, to: view.to, moved: false}; bars.setPointerCapture(event.pointerId); } });
bars.addEventListener("pointermove", event => {
  if (!drag) { hint(event); return; }
  if (Math.abs(event.clientX - drag.x) > 3) { drag.moved = true; bars.classList.add("moving"); $("tip").hidden = true; }
  if (drag.moved) { const by = (drag.x - event.clientX) / bars.clientWidth * (drag.to - drag.from); show(drag.from + by, drag.to + by); }
});
bars.addEventListener("pointerup", event => {
  const found = drag && !drag.moved && under(event);
  drag = null;
  bars.classList.remove("moving");
  if (found) pick(found.turn ? found : target(found.row), {scroll: false});
});
bars.addEventListener("pointerleave", () => { $("tip").hidden = true; });
bars.addEventListener("dblclick", event => into(under(event)?.turn));
$("scroll").addEventListener("wheel", event => {
  if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(Math.exp(clamp(event.deltaY, -80, 80) / 160), event.target === bars ? when(event) : undefined); }
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); move((event.deltaX || event.deltaY) / 800); }
  $("tip").hidden = true;
}, {passive: false});
$("scroll").addEventListener("scroll", draw);
$("labels").addEventListener("click", event => {
  const row = event.target.closest(".row")?.row;
  if (!row) return;
  if (event.target.className === "fold") toggle(row, !row.folded); else pick(target(row), {scroll: false});
});
$("labels").addEventListener("dblclick", event => { const row = event.target.closest(".row")?.row; into(row && row.turns[0]); });
const strip = $("overview");
strip.addEventListener("pointerdown", event => { drag = {strip: event.offsetX / strip.clientWidth * run.end}; strip.setPointerCapture(event.pointerId); });
strip.addEventListener("pointermove", event => {
  if (drag?.strip === undefined) return;
  const at = clamp(event.offsetX / strip.clientWidth, 0, 1) * run.end;
  if (Math.abs(at - drag.strip) > run.end / strip.clientWidth * 4) show(Math.min(at, drag.strip), Math.max(at, drag.strip));
});
strip.addEventListener("pointerup", () => { drag = null; });
strip.addEventListener("dblclick", () => show(0, run.end));
$("split").addEventListener("pointerdown", event => { drag = {split: event.clientX - column}; $("split").setPointerCapture(event.pointerId); });
$("split").addEventListener("pointermove", event => { if (drag?.split !== undefined) { column = clamp(event.clientX - drag.split, 90, $("chart").clientWidth - 160); draw(); } });
$("split").addEventListener("pointerup", () => { drag = null; });

function mark() { critical = !critical; $("critical").setAttribute("aria-pressed", critical); draw(); }
function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  colours();
}
const keys = {
  ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(20), PageUp: () => step(-20), Home: () => step(-1e9), End: () => step(1e9),
  ArrowLeft: () => { const row = picked?.row; if (row?.folds && !row.folded) toggle(row, true); else if (row?.parent) pick(target(row.parent)); },
  ArrowRight: () => { const row = picked?.row; if (row?.folded) toggle(row, false); else step(1); },
  "[": () => other(-1), "]": () => other(1), Enter: () => into(picked?.turn), "+": () => zoom(.7), "=": () => zoom(.7), "-": () => zoom(1 / .7),
  0: () => show(0, run.end), a: () => move(-.2), d: () => move(.2), e: fail, c: mark, t: theme, "?": () => $("help").showModal(),
  "/": () => { $("find").focus(); $("find").select(); }, Escape: close,
};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target === $("find")) {
    if (event.key === "Escape") { $("find").value = ""; find(); $("scroll").focus(); }
    if (event.key === "Enter") { const found = next(row => hits.has(row)); if (found) pick(target(found)); }
    return;
  }
  if (event.target.closest("button, select") && (event.key === "Enter" || event.key === " " || event.target.tagName === "SELECT")) return;
  const act = keys[event.key];
  if (act) { event.preventDefault(); act(); }
});
$("find").addEventListener("input", find);
for (const [id, act] of Object.entries({error: fail, critical: mark, in: keys["+"], out: keys["-"], fit: keys[0], theme, keys: keys["?"]})) $(id).onclick = act;
$("runs").addEventListener("change", event => choose(+event.target.value));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
new ResizeObserver(draw).observe($("chart"));

$("runs").hidden = runs.length < 2;
$("runs").append(...runs.map((each, index) => Object.assign(make("option", `${index + 1}. ${each.asked.slice(0, 60) || each.id} (${state(each)})`), {value: index})));
$("runs").value = runs.length - 1;
choose(runs.length - 1);
colours();
paint();
