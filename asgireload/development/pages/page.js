(() => {
  "use strict";
  // The server keeps this stream open and says first what it serves. When it ends, the browser asks again by itself.
  // A page that shows what is served stays; once the code works again, there is something else, or no such stream.
  const { state: shown, stream: address } = document.documentElement.dataset;
  const live = document.querySelector(".live");
  let stream = null;
  let isFollowed = false;
  // Where the stream never was (a proxy leads its path elsewhere), one try must do, or the page would renew itself for ever.
  const isWorthATry = () => {
    if (isFollowed) return true;
    try {
      const key = `asgireload ${shown}`;
      if (sessionStorage.getItem(key) !== null) return false;
      sessionStorage.setItem(key, "tried");
      return true;
    } catch {
      return false;
    }
  };
  const say = (words, isAway) => {
    live.textContent = words;
    live.classList.toggle("away", isAway);
    live.hidden = false;
  };
  const open = () => {
    if (stream !== null) return;
    stream = new EventSource(address);
    stream.addEventListener("state", (event) => {
      isFollowed = true;
      if (event.data !== shown) location.reload();
      else say("waiting for a change", false);
    });
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) say("waiting for the server", true);
      else if (isWorthATry()) location.reload();
      else say("reload this page when it is fixed", true);
    });
  };
  // A browser opens six connections to a server at most; tabs that nobody sees hold none.
  const close = () => {
    if (stream !== null) stream.close();
    stream = null;
  };
  const follow = () => (document.visibilityState === "visible" ? open() : close());
  // A page that was saved to a file, or answers a form, stays what it is.
  if (address && location.protocol.startsWith("http")) {
    document.addEventListener("visibilitychange", follow);
    addEventListener("pagehide", close);
    addEventListener("pageshow", follow);
    follow();
  }

  const copy = document.getElementById("copy");
  if (copy !== null && navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(copy.nextElementSibling.textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "The browser refused";
      }
    });
  }
})();
