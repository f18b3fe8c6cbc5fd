// Dark or light: remembered choice first, else what the system prefers. A classic script in <head>, so nothing flashes.
(function () {
  "use strict";
  const root = document.documentElement;
  let chosen = null;
  try { chosen = localStorage.getItem("mats-theme"); } catch { /* storage is off: the system decides */ }
  const system = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  root.dataset.bsTheme = chosen === "light" || chosen === "dark" ? chosen : system;

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme-toggle")) return;
    const theme = root.dataset.bsTheme === "dark" ? "light" : "dark";
    root.dataset.bsTheme = theme;
    try { localStorage.setItem("mats-theme", theme); } catch { /* not remembered, still switched */ }
    document.dispatchEvent(new CustomEvent("mats:theme"));
  });
})();
