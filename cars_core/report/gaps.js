(() => {
  const form = document.getElementById("find");
  if (!form) return;
  const rows = [...document.querySelectorAll("table.gaps tbody tr")];
  const found = document.getElementById("found");
  const filter = () => {
    const asked = form.elements.findings.value.toLowerCase().split(/[,+]/).map((w) => w.trim()).filter(Boolean);
    const cell = form.elements.cell ? form.elements.cell.value : "*";
    let shown = 0;
    for (const row of rows) {
      const name = row.querySelector(".combination").textContent.toLowerCase();
      row.hidden = !asked.every((word) => name.includes(word)) || (cell !== "*" && row.dataset.cell !== cell);
      shown += !row.hidden;
    }
    found.textContent = shown ? `${shown} of ${rows.length} shown` : "None of those listed is short with these findings.";
  };
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
  const matrix = document.querySelector(".matrix .scroll");
  if (!matrix) return;
  matrix.classList.add("open");
  matrix.addEventListener("click", (event) => {
    const square = event.target.closest("g[data-find]");
    if (!square) return;
    form.elements.findings.value = square.dataset.find;
    filter();
    document.getElementById("short").scrollIntoView();
  });
})();
