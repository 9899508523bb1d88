// What the page does in the browser alone: sliders, chips, the theme, keys, drops and pastes.
() => {
  const find = (selector) => document.querySelector(selector);
  // What handlers and the painter call.
  globalThis.iteris = {
    type,
    toStage: () => {
      if (find("#history .problems")) return;
      location.hash = "";
      showTab("result");
      find("#stage")?.scrollIntoView();
    },
  };
  const actions = {
    theme: () => document.body.classList.toggle("dark"),
    tab: ({ tab }) => showTab(tab),
    notify: async () => {
      if ((await Notification.requestPermission()) === "granted") localStorage.setItem(CHOICE, "yes");
      offerNotice();
    },
    say: ({ words }) => type("#prompt textarea", (text) => (text ? `${text.trimEnd()}, ${words}` : words)),
  };

  // Where there is no room for two columns, one part of the workbench is shown at a time.
  function showTab(name) {
    if (find("#page").dataset.tab === name) return;
    find("#page").dataset.tab = name;
    for (const each of document.querySelectorAll("#tabs button")) each.ariaPressed = String(each.dataset.tab === name);
    scrollTo(0, 0);
  }

  // A field takes a text as if it was typed.
  function type(selector, change) {
    const field = find(selector);
    if (!field) return;
    field.value = change(field.value);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("blur", { bubbles: true }));
  }

  // The tab's title tells how far a job is; a notification tells its end to whoever asked for it.
  const TITLE = "IterIS Studio", CHOICE = "iteris-notify";
  let running = false;
  function follow() {
    const percent = find("#status [role=progressbar]")?.getAttribute("aria-valuenow");
    const end = find("#status .done, #status .failed, #status .stopped");
    if (percent) {
      if (!running) showTab("result");
      running = true;
      document.title = `${percent} % · ${TITLE}`;
    } else if (running && end) {
      running = false;
      document.title = document.hidden ? `✓ ${TITLE}` : TITLE;
      if (document.hidden && wantsNotice()) new Notification(TITLE, { body: end.innerText.trim() });
    }
  }
  const wantsNotice = () => globalThis.Notification?.permission === "granted" && localStorage.getItem(CHOICE);
  function offerNotice() {
    const possible = globalThis.Notification && Notification.permission !== "denied" && !wantsNotice();
    find("#page").classList.toggle("offers-notice", Boolean(possible));
  }
  function watch() {
    const status = find("#status");
    if (!status) return setTimeout(watch, 200); // the page is not built yet
    new MutationObserver(follow).observe(status, { childList: true, subtree: true, attributes: true });
    offerNotice();
  }
  watch();
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !running) document.title = TITLE;
  });

  function upload(files) {
    const input = find("#upload input[type=file]");
    if (!input || !files.length) return;
    const carrier = new DataTransfer();
    for (const file of files) carrier.items.add(file);
    showTab("add");
    input.files = carrier.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  location.hash = ""; // of a page that was loaded with a panel open, which its link could not open then
  document.addEventListener("click", (event) => {
    // Gradio's page has a base address, for which a link to a part of the page would load it anew.
    const link = event.target.closest('#page a[href^="#"]');
    if (link) {
      event.preventDefault();
      location.hash = link.hash;
    }
    const source = event.target.closest("[data-do]");
    const action = source && actions[source.dataset.do];
    if (action) action(source.dataset);
  });
  document.addEventListener("input", ({ target }) => {
    if (target.dataset?.do !== "cut") return;
    const pair = target.closest(".pair");
    pair.classList.add("moved");
    pair.style.setProperty("--cut", `${target.value}%`);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("#press:enabled")?.click();
    if (event.target.type === "radio" && /^Arrow(Down|Up)$/.test(event.key)) step(event);
    if (event.key === "Escape" && location.hash) location.hash = "";
  });
  // Gradio gives every radio button a name of its own, so the browser does not step between them.
  function step(event) {
    const all = [...event.target.closest("fieldset").querySelectorAll("input[type=radio]")].filter((it) => it.offsetParent);
    const next = all[all.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)];
    event.preventDefault();
    next?.focus();
    next?.click();
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) return upload(event.clipboardData.files);
    if (event.target.closest("input, textarea, [contenteditable]")) return;
    type("#hub input", () => event.clipboardData.getData("text").trim());
    find("#hub input")?.focus();
  });
  // Files may be dropped anywhere; where Gradio has a drop of its own, that one takes them.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (event.target.closest(".upload-container, input[type=file]") || !event.dataTransfer?.files.length) return;
    event.preventDefault();
    upload(event.dataTransfer.files);
  });
}
