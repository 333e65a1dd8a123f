(() => {
  "use strict";
  const { state: shown, stream: address } = document.currentScript.dataset;
  const once = Symbol.for("asgireload.refresh");
  // A page may be put into another one with its script.
  if (window[once]) return;
  window[once] = true;
  let stream = null;

  // While workers are replaced one by one, the next page may come from an old one again: it is asked for again after
  // a while. A cache or a service worker may give out an old copy each time: that must end.
  const TRIES = 5;
  const PAUSE = 500;
  const settle = () => {
    try { sessionStorage.removeItem("asgireload"); } catch { /* There is no memory to clear. */ }
  };
  const reload = (served) => {
    const change = `${shown} ${served}`;
    let tries = 0;
    try {
      const [known, count] = JSON.parse(sessionStorage.getItem("asgireload")) ?? [];
      if (known === change) tries = count;
      sessionStorage.setItem("asgireload", JSON.stringify([change, tries + 1]));
    } catch {
      tries = TRIES - 1;  // Without a memory nothing would end it but the pause.
    }
    if (tries === 0) location.reload();
    else if (tries < TRIES) setTimeout(() => location.reload(), PAUSE);
  };

  const here = (address) => {
    const url = new URL(address, location.href);
    return url.origin === location.origin ? url : null;
  };
  const fileOf = (url) => decodeURIComponent(url.pathname).split("/").pop();
  const renewed = (url) => {
    url.searchParams.set("asgireload", Date.now());
    return url.href;
  };

  const exchangeStyles = (name) => {
    const sheets = [...document.querySelectorAll("link[rel~=stylesheet][href]")]
      .map((link) => ({ link, url: here(link.href) }))
      .filter(({ url }) => url !== null);
    const named = sheets.filter(({ url }) => fileOf(url) === name);
    // One that no link names is imported by another one.
    for (const { link, url } of named.length > 0 ? named : sheets) {
      const fresh = link.cloneNode();
      fresh.href = renewed(url);
      // The old one stays until the new one is there, so that nothing flashes.
      fresh.addEventListener("load", () => link.remove());
      fresh.addEventListener("error", () => fresh.remove());
      link.after(fresh);
    }
  };

  const exchangeImages = (name) => {
    let isFound = false;
    for (const image of document.images) {
      const url = image.currentSrc && here(image.currentSrc);
      if (!url || fileOf(url) !== name) continue;
      image.removeAttribute("srcset");
      image.src = renewed(url);
      isFound = true;
    }
    if (isFound) return;
    // Loaded by this page, but by no element: a style sheet's background, or a script's work.
    const used = performance
      .getEntriesByType("resource")
      .some((entry) => { const url = here(entry.name); return url !== null && fileOf(url) === name; });
    if (used) location.reload();
  };

  const open = () => {
    if (stream !== null) return;
    stream = new EventSource(address);
    stream.addEventListener("state", (event) => {
      if (event.data === shown) settle();
      else reload(event.data);
    });
    stream.addEventListener("css", (event) => exchangeStyles(event.data));
    stream.addEventListener("image", (event) => exchangeImages(event.data));
    stream.addEventListener("page", () => location.reload());
  };
  // A browser opens six connections to a server at most; tabs that nobody sees hold none, and look when they are seen.
  const close = () => {
    if (stream !== null) stream.close();
    stream = null;
  };
  const follow = () => (document.visibilityState === "visible" ? open() : close());
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", close);
  addEventListener("pageshow", follow);
  follow();
})();
