// The header's menus: open by their own <details>; closed by a click elsewhere, Escape, or when the focus moves on.
(function () {
  "use strict";
  const opened = () => document.querySelectorAll(".nav-menu[open]");
  const closeBut = (kept) => opened().forEach((menu) => { if (menu !== kept) menu.open = false; });
  document.addEventListener("click", (event) => closeBut(event.target.closest(".nav-menu")));
  document.addEventListener("focusin", (event) => closeBut(event.target.closest(".nav-menu")));
  document.addEventListener("keydown", (event) => {
    const [menu] = opened();
    if (event.key !== "Escape" || !menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
})();
