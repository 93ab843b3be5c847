"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const form = document.getElementById("filters");
  if (form) {
    const shown = document.getElementById("shown");
    const apply = () => {
      const wanted = [...new FormData(form)].filter(([, value]) => value);
      let count = 0;
      for (const card of cards) {
        card.hidden = !wanted.every(([key, value]) => card.dataset[key].trim().split(" ").includes(value));
        count += card.hidden ? 0 : 1;
      }
      shown.textContent = `${count} of ${cards.length} pictured edits shown`;
    };
    form.hidden = false;
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(apply));
    apply();
  }

  // The viewer shows one edit's pictures in the same place, so that flipping between them shows the change.
  const viewer = document.getElementById("viewer");
  const image = document.getElementById("viewer-image");
  const title = document.getElementById("viewer-title");
  const tabs = document.getElementById("viewer-tabs");
  let films = [];
  let at = 0;
  const show = (index) => {
    at = (index + films.length) % films.length;
    const film = films[at].querySelector("img");
    image.src = film.src;
    image.alt = film.alt;
    [...tabs.children].forEach((tab, i) => tab.setAttribute("aria-pressed", String(i === at)));
    if (viewer.open) tabs.children[at].focus();
  };
  const open = (card, index) => {
    films = [...card.querySelectorAll(".film")];
    title.textContent = card.querySelector("h3").textContent;
    tabs.replaceChildren(...films.map((film, i) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.textContent = film.parentElement.querySelector("figcaption").textContent;
      tab.addEventListener("click", () => show(i));
      return tab;
    }));
    viewer.showModal();
    show(index);
  };
  for (const card of cards) {
    card.querySelectorAll(".film").forEach((film, index) => {
      film.tabIndex = 0;
      film.setAttribute("role", "button");
      film.setAttribute("aria-label", `Enlarge: ${film.querySelector("img").alt}`);
      film.addEventListener("click", () => open(card, index));
      film.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          open(card, index);
        }
      });
    });
  }
  document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
  });
})();
