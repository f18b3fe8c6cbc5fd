// The page's socket: resumes behind the last event it has, drops what it already had, says when it is stale.
const STALE_MS = 3000;
const DEAD_MS = 8000;
const MAX_PAUSE_MS = 3000;
const LOGIN_REQUIRED = 4401;

export class Live {
  constructor(last, strategy) {
    this.last = last;
    this.strategy = strategy;
    this.handlers = new Map();
    this.onHeartbeat = () => {};
    this.onStatus = () => {};
    this.onBatch = () => {};
    this.onEvent = () => {};
    this.pause = 250;
    this.heardAt = performance.now();
    this.socket = null;
  }

  on(kind, handler) { this.handlers.set(kind, handler); return this; }

  start() {
    this.connect();
    setInterval(() => this.watch(), 500);
    addEventListener("online", () => this.reconnectNow());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.reconnectNow(); });
  }

  connect() {
    this.timer = null;
    const address = new URL("/ws/live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    address.searchParams.set("last", this.last);
    if (this.strategy) address.searchParams.set("strategy", this.strategy);
    const socket = this.socket = new WebSocket(address);
    this.openedAt = performance.now();
    socket.addEventListener("message", (message) => { if (socket === this.socket) this.receive(JSON.parse(message.data)); });
    socket.addEventListener("close", (closed) => { if (socket === this.socket) this.closed(closed.code); });
  }

  closed(code) {
    this.socket = null;
    if (code === LOGIN_REQUIRED) {
      location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`);
      return;
    }
    this.watch();
    const jitter = 0.75 + Math.random() / 4;
    this.timer = setTimeout(() => this.connect(), this.pause * jitter);
    this.pause = Math.min(this.pause * 2, MAX_PAUSE_MS);
  }

  reconnectNow() {
    if (this.socket || !this.timer) return;
    clearTimeout(this.timer);
    this.connect();
  }

  receive(frame) {
    this.heardAt = performance.now();
    this.pause = 250;
    if (frame.type === "reset") { location.reload(); return; }
    if (frame.type === "events") {
      for (const event of frame.events) this.dispatch(event);
      this.last = Math.max(this.last, frame.last);
      this.socket?.send(JSON.stringify({ type: "ack", last: frame.last }));
      this.onBatch();
    } else if (frame.type === "heartbeat") {
      this.last = Math.max(this.last, frame.last);
      this.onHeartbeat(frame.engine, frame.server_time);
    }
    this.watch();
  }

  dispatch(event) {
    if (event.id <= this.last) return;
    this.last = event.id;
    this.onEvent(event.kind);
    const handler = this.handlers.get(event.kind);
    if (!handler) return;
    // One odd payload must not stop the page from following the rest.
    try { handler(event.payload, event); } catch (error) { console.error("event", event.id, event.kind, error); }
  }

  watch() {
    const silence = performance.now() - this.heardAt;
    if (silence > DEAD_MS && this.socket && performance.now() - this.openedAt > DEAD_MS) this.socket.close();
    if (silence > STALE_MS) this.onStatus("stale", Math.round(silence / 1000));
    else if (this.socket?.readyState === WebSocket.OPEN) this.onStatus("live", 0);
    else this.onStatus("connecting", 0);
  }
}
