// Keeps the page true: when an event says that something changed, the parts marked data-live are fetched and replaced.
"use strict";

(() => {
  const parts = () => [...document.querySelectorAll("[data-live]")].filter((one) => !one.parentElement.closest("[data-live]"));
  const sign = document.getElementById("live");
  if (!sign || !parts().length) return;
  const SPACING = 1000; // ms between two looks
  const OFTEN = 10000; // a look without any event: ages and charts move on
  const words = { on: "live", lost: "connecting…", off: "paused" };
  let source = null;
  let timer = 0;
  let looked = 0;

  const show = (state) => {
    if (sign.dataset.state === state) return;
    sign.dataset.state = state;
    sign.textContent = words[state];
  };

  // what a person is about to use is left alone
  const inUse = (part) => {
    const selection = getSelection();
    return (!selection.isCollapsed && part.contains(selection.anchorNode)) || part.querySelector("dialog[open]");
  };

  const replace = (old, fresh) => {
    if (old.outerHTML === fresh.outerHTML || inUse(old)) return;
    const checked = new Set([...old.querySelectorAll("[data-pick]:checked")].map((box) => box.dataset.pick));
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const place = active ? [...old.querySelectorAll("a, button, input, pre, summary")].indexOf(active) : -1;
    // who is at the end of a log stays there
    const scrolled = [...old.querySelectorAll("pre")].map((one) =>
      one.scrollTop + one.clientHeight >= one.scrollHeight - 2 ? 1e9 : one.scrollTop);
    old.replaceWith(fresh);
    fresh.querySelectorAll("[data-pick]").forEach((box) => { box.checked = checked.has(box.dataset.pick); });
    fresh.querySelectorAll("pre").forEach((one, n) => { one.scrollTop = scrolled[n] || 0; });
    if (place >= 0) fresh.querySelectorAll("a, button, input, pre, summary")[place]?.focus({ preventScroll: true });
  };

  const look = async () => {
    clearTimeout(timer);
    looked = Date.now();
    timer = setTimeout(look, OFTEN);
    if (document.hidden) return;
    try {
      const reply = await fetch(location.href, { headers: { Accept: "text/html", "X-Taskmill": "page" } });
      if (reply.redirected && new URL(reply.url).pathname === "/ui/login") return location.reload();
      const page = new DOMParser().parseFromString(await reply.text(), "text/html");
      for (const old of parts()) {
        const fresh = page.getElementById(old.id);
        if (fresh) replace(old, document.importNode(fresh, true));
      }
      for (const fresh of page.querySelectorAll("#main > [data-live]")) {
        if (!document.getElementById(fresh.id)) document.getElementById("main").append(document.importNode(fresh, true));
      }
    } catch { /* the dispatcher is away: the stream says so, and looks again when it is back */ }
  };

  taskmill.refresh = () => {
    clearTimeout(timer);
    timer = setTimeout(look, Math.max(0, SPACING - (Date.now() - looked)));
  };

  const listen = () => {
    if (source || document.hidden) return;
    source = new EventSource(document.body.dataset.events || "/events");
    source.onopen = () => { show("on"); taskmill.refresh(); };
    source.onerror = () => {
      show("lost");
      if (source?.readyState === EventSource.CLOSED) { // refused, say with 503: the browser does not try again by itself
        source = null;
        setTimeout(listen, 5000);
      }
    };
    for (const kind of ["task", "counts", "reset"]) source.addEventListener(kind, taskmill.refresh);
  };

  const rest = () => {
    source?.close();
    source = null;
    show("off");
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", listen);
  timer = setTimeout(look, OFTEN);
  listen();
})();
