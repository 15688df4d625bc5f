"use strict";
(() => {
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const region = () => at("region");
  const mine = Intl.DateTimeFormat().resolvedOptions().timeZone;
  root.classList.add("scripted");

  // Ages: the server writes them once, here they go on. The spelling is the server's.
  const span = (s) => {
    s = Math.max(0, Math.floor(s));
    if (s < 60) return s + " s";
    const parts = [];
    for (const [name, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      const count = Math.floor(s / size);
      s %= size;
      if (count || parts.length) parts.push(count ? count + " " + name : "");
      if (parts.length === 2) break;
    }
    return parts.filter(Boolean).join(" ");
  };
  // By the server's clock where this computer's is far from it. A page may be kept for ten seconds.
  let skew = 0;
  const heard = (when) => { const by = Date.parse(when) - Date.now(); if (!isNaN(by)) skew = Math.abs(by) < 20000 ? 0 : by; };
  const age = (iso) => (Date.now() + skew - Date.parse(iso)) / 1000;
  const tell = (e, text) => { if (e.textContent !== text) e.textContent = text; };
  const ages = () => {
    document.querySelectorAll(".ago").forEach((e) => tell(e, span(age(e.dateTime))));
    document.querySelectorAll("[data-here]").forEach((e) => tell(e, e.dataset.here && root.dataset.zone !== mine ? `; ${new Date(e.dataset.here).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })} here` : ""));
  };

  let dataAt = "", missed = 0, waiting = 0, calmUntil = 0, touched = 0, timer = 0, focused = false, gone = false;
  const pace = Number(root.dataset.refresh) * 1000 || 0;
  let paused = !pace || sessionStorage.getItem("paused") === "1";

  const clock = () => {
    const time = at("data-at"), r = region(), note = at("stale");
    if (time && dataAt) {
      at("data-age").textContent = span(age(dataAt));
      if (time.dateTime !== dataAt) {
        time.dateTime = dataAt;
        const zone = time.textContent.split(" ").pop();
        time.textContent = zone === "UTC" ? dataAt.slice(11, 19) + " UTC" : new Date(dataAt).toLocaleTimeString("en-GB", { timeZone: root.dataset.zone }) + " " + zone;
      }
    }
    document.querySelectorAll("[data-checked]").forEach((e) => { if (dataAt > e.dateTime) { e.dateTime = dataAt; e.title = ""; tell(e, span(age(dataAt))); } });
    if (!r || !note) return;
    const old = dataAt && age(dataAt) > Number(r.dataset.old);
    let text = "";
    if (gone) text = "This key is no longer in the inventory. What you see was true before.";
    else if (missed >= 3) text = "Lockboard does not answer. What you see was true " + (dataAt ? span(age(dataAt)) + " ago." : "some time ago.");
    else if (old && !at("old")) text = "This data is " + span(age(dataAt)) + " old. The refresher may have stopped.";
    tell(note, text);
    note.hidden = !text;
    at("lamp")?.classList.toggle("lost", gone || missed >= 3 || Boolean(old || r.querySelector(":scope > .notice")));
  };

  const count = (n) => {
    if (n === undefined || n === "") return;
    document.title = (Number(n) ? `(${n}) ` : "") + document.title.replace(/^\(\d+\) /, "");
    const icon = at("favicon"), href = icon.getAttribute("href").replace(/\d+\.svg/, `${Math.min(Number(n), 100)}.svg`);
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
  };

  // A row must not move under a pointer, a focus, a selection or an open menu.
  const busy = () => {
    const r = region(), here = document.activeElement;
    if (!r) return false;
    const recent = Date.now() - touched < 15000;
    return Boolean((recent && (r.querySelector("tbody:hover") || (here && here !== r && r.contains(here)))) || r.querySelector("details.menu[open]") || (!getSelection().isCollapsed && r.contains(getSelection().anchorNode)));
  };
  const refresh = () => { at("pill").hidden = true; waiting = 0; const r = region(); if (r) htmx.trigger(r, "lb:refresh"); };
  const offer = (rows) => {
    waiting = Math.max(waiting, rows);
    if (!busy()) return refresh();
    const pill = at("pill");
    pill.textContent = waiting ? `${waiting} ${waiting === 1 ? "change" : "changes"}, show` : "Counts changed, show";
    if (pill.hidden) at("said").textContent = pill.textContent;
    pill.hidden = false;
  };

  // Looking for news: faster for a minute after a change, slower when nobody has touched the page for long.
  const next = () => {
    clearTimeout(timer);
    if (paused || gone || document.hidden || !at("pulse")) return;
    const idle = Date.now() - touched > 600000 ? 3 : 1;
    timer = setTimeout(look, Date.now() < calmUntil ? Math.min(3000, pace) : pace * idle * Math.min(1 + missed, 4));
  };
  const look = () => {
    if (paused || gone || document.hidden || !at("pulse")) return;
    if (!at("pill").hidden) offer(waiting);
    if (region()?.dataset.every) refresh(); else htmx.trigger(at("pulse"), "lb:pulse");
    next();
  };
  const pause = () => {
    const button = at("pause");
    if (!button) return;
    button.hidden = !pace || !at("pulse");
    button.setAttribute("aria-pressed", String(paused));
    button.lastElementChild.textContent = paused ? "Resume" : "Pause";
    const use = button.querySelector("use");
    use.setAttribute("href", use.getAttribute("href").replace(/#.*/, paused ? "#play" : "#pause"));
    at("lamp").classList.toggle("paused", paused);
  };

  // Nothing is listened to before the page is whole: half of it has no search box and no place for what is said.
  document.addEventListener("DOMContentLoaded", () => {
    addEventListener("htmx:config:request", (e) => {
      const ctx = e.detail.ctx;
      if (ctx.sourceElement.id === "deed") { at("said").textContent = "Sent. Waiting for the answer."; at("lost").hidden = at("oops").hidden = true; }
      if (ctx.sourceElement.id !== "pulse") return;
      const r = region();
      if (!r || document.hidden) return e.preventDefault();
      ctx.request.action = r.dataset.pulse;
      ctx.request.body.set("rev", r.dataset.rev);
    });
    // An error that is not Lockboard's own, and no answer at all, say nothing of what became of an action.
    const lost = () => { const note = at("lost"); note.hidden = false; note.focus(); };
    addEventListener("htmx:after:request", (e) => {
      const { sourceElement: from, response } = e.detail.ctx;
      if (from.id === "deed") {
        if (response.status >= 400 && !response.headers.get("Lockboard-Answer") && !response.headers.get("HX-Redirect")) { e.preventDefault(); lost(); }
        return;
      }
      heard(response.headers.get("Date"));
      const ours = from.id === "pulse" || from.id === "region";
      if (from.id === "region" && response.status === 404) { gone = true; clearTimeout(timer); }
      if (response.status >= 400) { if (ours) missed += 1; else at("said").textContent = `The server answered ${response.status}.`; }
      else missed = 0;
      if (from.id === "pulse" && response.status === 204) region().dataset.rev = response.headers.get("Lockboard-Generation");
      dataAt = response.headers.get("Lockboard-Data-At") || dataAt;
      clock();
    });
    addEventListener("htmx:error", (e) => { const id = e.detail.ctx?.sourceElement?.id; if (id === "deed") lost(); else if (id) { missed += id === "pulse" || id === "region" ? 1 : 3; clock(); } });
    addEventListener("lb:changed", (e) => { calmUntil = Date.now() + 60000; count(e.detail.attention); offer(e.detail.rows); next(); });
    addEventListener("htmx:before:swap", () => { focused = Boolean(region()?.contains(document.activeElement)); });
    addEventListener("htmx:after:swap", (e) => {
      const r = region();
      if (!r) ages();
      if (!r || e.detail.ctx.sourceElement.id === "pulse") return;
      dataAt = r.dataset.at || dataAt;
      count(r.dataset.attention);
      const q = at("q");
      if (q && r.dataset.q !== undefined && document.activeElement !== q) q.value = r.dataset.q;
      at("pill").hidden = true;
      ages(); clock();
      if (focused && document.activeElement === document.body) r.querySelector("h1")?.focus({ preventScroll: true });
    });
    addEventListener("pageshow", (e) => { if (e.persisted && at("deed")) location.reload(); });
    document.addEventListener("visibilitychange", () => { clearTimeout(timer); if (!document.hidden) { ages(); clock(); look(); } });
    for (const kind of ["pointermove", "pointerdown", "keydown", "scroll"]) addEventListener(kind, () => { touched = Date.now(); }, { passive: true, capture: true });

    const shut = (menu) => { if (menu.contains(document.activeElement)) menu.firstElementChild.focus(); menu.open = false; };
    document.addEventListener("click", (e) => {
      const copy = e.target.closest("[data-copy], [data-copy-link]");
      document.querySelectorAll("details.menu[open]").forEach((d) => { if (!d.contains(e.target) || e.target.closest("a")) shut(d); });
      const link = e.target.closest(".tabs a, .menu a, .chip, thead a, .pager a");
      if (link && at("go") && !(e.ctrlKey || e.metaKey || e.shiftKey || e.button)) {
        e.preventDefault();
        htmx.ajax("GET", link.getAttribute("href"), { source: "#go", target: "#region", swap: link.closest(".pager") ? "outerMorph show:top" : "outerMorph" });
      }
      const reason = e.target.closest("[data-reason]");
      if (reason) { at("reason").value = reason.dataset.reason; at("said").textContent = `Reason: ${reason.dataset.reason}`; }
      if (e.target.closest("#pill")) refresh();
      if (e.target.closest("#pause")) { paused = !paused || !pace; sessionStorage.setItem("paused", paused ? "1" : "0"); pause(); if (!paused) look(); }
      if (e.target.closest("#my-zone")) { at("zone").value = at("my-zone").dataset.zone; at("zone").focus(); }
      if (!copy) return;
      const text = copy.dataset.copy ?? location.origin + copy.dataset.copyLink;
      navigator.clipboard.writeText(text).then(
        () => { copy.classList.add("copied"); at("said").textContent = "Copied."; setTimeout(() => copy.classList.remove("copied"), 1500); },
        () => { at("said").textContent = "The browser did not allow copying."; });
    });

    document.addEventListener("keydown", (e) => {
      const from = e.target, q = at("q");
      if (e.key === "Escape") { if (from === q) q.blur(); document.querySelectorAll("details.menu[open]").forEach(shut); }
      if (root.dataset.keys !== "on" || e.ctrlKey || e.metaKey || e.altKey || from.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(from.tagName)) return;
      if (e.key === "/") { if (q) { e.preventDefault(); q.focus(); q.select(); } }
      else if (e.key === "?") { if (!at("keys").open) at("keys").showModal(); }
      else if (e.key === "j" || e.key === "k") {
        const rows = [...document.querySelectorAll(".row .key, .found .key")];
        if (!rows.length) return document.querySelector(e.key === "j" ? "[rel=next]" : "[rel=prev]")?.click();
        const now = rows.indexOf(document.activeElement);
        const row = rows[Math.min(rows.length - 1, Math.max(0, now < 0 ? 0 : now + (e.key === "j" ? 1 : -1)))];
        row.focus(); row.closest("tr, li").scrollIntoView({ block: "nearest" });
      }
    });

    const r = region(), button = at("my-zone");
    touched = Date.now();
    heard(at("clock")?.dataset.now);
    dataAt = r?.dataset.at || at("data-at")?.dateTime || "";
    if (button && [...at("zone").options].some((o) => o.value === mine)) { button.dataset.zone = mine; button.textContent = `Use ${mine}, as this computer`; button.hidden = false; }
    if (!navigator.clipboard) document.querySelectorAll(".copy").forEach((b) => { b.hidden = true; });
    at("q")?.addEventListener("paste", (e) => {
      const text = e.clipboardData.getData("text");
      if (!text.includes("\n")) return;
      e.preventDefault();
      location.assign("/find?q=" + encodeURIComponent(text.slice(0, 2500)));
    });
    document.querySelector("[autofocus]")?.focus();
    pause(); ages(); clock(); next();
    setInterval(() => { if (!document.hidden) { clock(); ages(); } }, 1000);
  });
})();
