// What the pages do when asked: buttons that call the API, forms that become JSON, actions on many tasks.
"use strict";

const taskmill = { busy: false };

taskmill.call = async (method, url, body) => {
  const headers = { "X-Taskmill": "page" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(url, { method, headers, body });
  } catch {
    throw new Error("The dispatcher does not answer.");
  }
  const told = await reply.json().catch(() => ({}));
  if (reply.status === 401) location.reload();
  if (!reply.ok) throw new Error(told.message || `HTTP ${reply.status}`);
  return told.data || {};
};

taskmill.say = (text, bad = false) => {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  clearTimeout(taskmill.quiet);
  taskmill.quiet = setTimeout(() => { toast.textContent = ""; }, bad ? 12000 : 5000);
};

taskmill.ask = (text, yes = "Do it") => new Promise((answer) => {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-text").textContent = text;
  const button = document.getElementById("ask-yes");
  button.textContent = yes;
  button.onclick = () => dialog.close("yes");
  document.getElementById("ask-no").onclick = () => dialog.close("no");
  dialog.onclose = () => answer(dialog.returnValue === "yes");
  dialog.returnValue = "no";
  dialog.showModal();
});

taskmill.attempt = async (what) => {
  if (taskmill.busy) return;
  taskmill.busy = true;
  try {
    await what();
  } catch (error) {
    taskmill.say(error.message, true);
  } finally {
    taskmill.busy = false;
  }
};

// -- one action --

const VERDICTS = { cancel_requested: "Its worker was told to stop.", not_unique: "Its twin is unfinished.", already_final: "It has ended already." };

taskmill.press = async (button) => {
  const { method, url, body, ask, then } = button.dataset;
  if (ask && !(await taskmill.ask(ask, button.textContent.trim()))) return;
  const data = await taskmill.call(method, url, body);
  if (then) location.assign(then);
  else taskmill.say(VERDICTS[data.verdict] || `${button.textContent.trim()}: done.`);
  taskmill.refresh?.();
};

taskmill.copy = async (button) => {
  const text = document.getElementById(button.dataset.copy).textContent;
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else { // over plain http there is no clipboard to write to
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  taskmill.say("Copied.");
};

// -- forms: JSON is put together from texts, so that a number of any size stays what it was --

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

taskmill.text = (input) => {
  const value = input.dataset.kind === "text" ? input.value : input.value.trim();
  const name = input.labels[0]?.firstChild.textContent.trim() || "a field";
  if (value === "") {
    if (input.required) throw Object.assign(new Error(`${name} is needed.`), { input });
    return input.dataset.empty || null;
  }
  switch (input.dataset.kind) {
    case "int": if (/^-?(0|[1-9]\d*)$/.test(value)) return value; break;
    case "number": if (NUMBER.test(value)) return value; break;
    case "json": try { JSON.parse(value); return value; } catch { break; }
    case "list": return JSON.stringify(value.split(/[\s,]+/).filter(Boolean));
    default: return JSON.stringify(value);
  }
  const kinds = { int: "a whole number", number: "a number", json: "JSON" };
  throw Object.assign(new Error(`${name} must be ${kinds[input.dataset.kind]}.`), { input });
};

taskmill.body = (form) => {
  const top = new Map();
  const changed = (input) => form.dataset.method !== "PATCH" || input.value !== input.defaultValue;
  for (const input of form.querySelectorAll("[data-path]")) {
    const path = JSON.parse(input.dataset.path);
    const mates = [...form.querySelectorAll("[data-path]")].filter((one) => JSON.parse(one.dataset.path)[0] === path[0]);
    const text = mates.some(changed) ? taskmill.text(input) : null;
    if (text === null) continue;
    if (path.length === 1) top.set(path[0], [text, ...(top.get(path[0])?.slice(1) || [])]);
    else {
      if (!top.has(path[0])) top.set(path[0], [null]);
      top.get(path[0]).push(`${JSON.stringify(path[1])}:${text}`);
    }
  }
  for (const input of form.querySelectorAll('[data-path*=","]')) { // a pair that was emptied takes its limit away
    const name = JSON.parse(input.dataset.path)[0];
    if (form.dataset.method === "PATCH" && changed(input) && !top.has(name)) top.set(name, ["null"]);
  }
  return `{${[...top].map(([name, parts]) => `${JSON.stringify(name)}:${taskmill.merged(name, parts)}`).join(",")}}`;
};

taskmill.merged = (name, [whole, ...parts]) => {
  if (!parts.length) return whole;
  if (whole === null) return `{${parts.join(",")}}`;
  const said = new Set(parts.map((part) => JSON.parse(part.slice(0, part.indexOf('":') + 1))));
  const rest = JSON.parse(whole);
  if (rest === null || typeof rest !== "object" || Array.isArray(rest)) throw new Error("More data must be a JSON object.");
  return `{${[...Object.keys(rest).filter((key) => !said.has(key)).map((key) => `${JSON.stringify(key)}:${JSON.stringify(rest[key])}`), ...parts].join(",")}}`;
};

taskmill.send = async (form) => {
  const alert = form.querySelector(".alert");
  alert.textContent = "";
  form.querySelectorAll("[aria-invalid]").forEach((one) => one.removeAttribute("aria-invalid"));
  try {
    const data = await taskmill.call(form.dataset.method, form.dataset.url, taskmill.body(form));
    if (form.dataset.then) location.assign(form.dataset.then + data.task_id);
    else {
      for (const input of form.querySelectorAll("[data-path]")) input.defaultValue = input.value;
      taskmill.say("Saved.");
    }
    taskmill.refresh?.();
  } catch (error) {
    alert.textContent = error.message;
    error.input?.setAttribute("aria-invalid", "true");
    error.input?.focus();
  }
};

// -- many tasks --

const DONE = { retry: "retried", cancel: "cancelled", delete: "deleted" };
const picked = () => [...document.querySelectorAll("[data-pick]:checked")].map((box) => Number(box.dataset.pick));
const tasks = (n, more = false) => `${more ? "at least " : ""}${n.toLocaleString("en")} task${n === 1 ? "" : "s"}`;

taskmill.bulk = async (button) => {
  const action = button.dataset.bulk;
  const { filter, q } = button.closest(".bulk").dataset;
  const chosen = picked();
  const order = { more: false };
  if (chosen.length) Object.assign(order, { task_ids: chosen, n: chosen.length });
  else if (filter) {
    const count = await taskmill.call("POST", `/tasks/${action}`, JSON.stringify({ filter: JSON.parse(filter), dry_run: true }));
    Object.assign(order, { filter: JSON.parse(filter), n: count.matched, more: count.next_cursor !== null });
  } else {
    const found = await taskmill.call("GET", `/ui/tasks/ids?q=${encodeURIComponent(q)}`);
    Object.assign(order, { task_ids: found.task_ids, n: found.task_ids.length, more: found.more });
  }
  if (!order.n) return taskmill.say("There is nothing to change.");
  const first = order.task_ids && order.more ? `the newest ${tasks(order.n)} that match` : tasks(order.n, order.more);
  const verb = action[0].toUpperCase() + action.slice(1);
  if (!(await taskmill.ask(`${verb} ${first}?`, `${verb} ${order.n.toLocaleString("en")}`))) return;
  let changed = 0;
  let cursor = null;
  do {
    const body = { ...(order.filter ? { filter: order.filter } : { task_ids: order.task_ids }), ...(cursor ? { cursor } : {}) };
    const done = await taskmill.call("POST", `/tasks/${action}`, JSON.stringify(body));
    changed += done.changed;
    cursor = done.next_cursor;
    if (cursor) taskmill.say(`${tasks(changed)} ${DONE[action]} so far…`);
  } while (cursor);
  document.querySelectorAll("[data-pick], [data-all]").forEach((box) => { box.checked = false; });
  taskmill.scope();
  taskmill.say(`${tasks(changed)} ${DONE[action]}.`);
  taskmill.refresh?.();
};

taskmill.scope = () => {
  const bar = document.querySelector(".bulk");
  if (!bar) return;
  const n = picked().length;
  bar.querySelector(".scope").textContent = n ? `${tasks(n)} selected:` : bar.dataset.q ? "All matching:" : "Select tasks, or search to act on all that match:";
  bar.querySelectorAll("button").forEach((button) => { button.disabled = !n && !bar.dataset.q; });
};

// -- wiring --

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.url) taskmill.attempt(() => taskmill.press(button));
  else if (button.dataset.bulk) taskmill.attempt(() => taskmill.bulk(button));
  else if (button.dataset.copy) taskmill.attempt(() => taskmill.copy(button));
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-form]")) return;
  event.preventDefault();
  taskmill.attempt(() => taskmill.send(event.target));
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) document.querySelectorAll("[data-pick]").forEach((box) => { box.checked = event.target.checked; });
  if (event.target.matches("[data-all], [data-pick]")) taskmill.scope();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  const box = document.getElementById("q");
  if (box) box.focus();
  else location.assign("/ui/tasks");
});
