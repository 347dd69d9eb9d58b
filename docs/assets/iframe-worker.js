// To lunr, a leading "-" means "without", also where people look for --set. It reads a query twice, each time without escapes.
const asWord = (message) => {
  if (typeof message.data !== "string") return message;
  return { ...message, data: message.data.replace(/(?<!\S)-+(?=\w)/g, (dashes) => dashes.replaceAll("-", "\\\\\\-")) };
};
const BrowserWorker = window.Worker;
window.Worker = class extends BrowserWorker {
  postMessage(message) {
    super.postMessage(asWord(message));
  }
};

// Search for pages opened from disk: browsers start no worker from file://, so the search's worker runs in a hidden iframe.
(() => {
  if (location.protocol !== "file:") return;
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.inner = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== this.inner) return;
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        if (this.onmessage) this.onmessage(event);
      });
      this.ready = new Promise((done) => {
        this.inner.addEventListener("DOMContentLoaded", done);
        this.inner.document.open();
        this.inner.document.write(
          "<script>postMessage = (data) => parent.postMessage(data, '*');" +
          "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {" +
          "  const script = document.createElement('script'); script.src = url; script.onload = done;" +
          "  document.documentElement.appendChild(script); })), Promise.resolve());" +
          "</scr" + "ipt><script src='" + url + "'></scr" + "ipt>"
        );
        this.inner.document.close();
        setTimeout(done, 1000);
      });
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data: asWord(data) })));
    }
    terminate() {}
  };
})();
