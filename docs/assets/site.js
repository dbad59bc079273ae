// Wide tables, blocks and diagrams scroll by themselves; this lets the keyboard scroll them too.
addEventListener("load", () => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, pre > code, .diagram")) each.tabIndex = 0;
});
// The theme's box of buttons of each block is no landmark, and its choice of versions is called what it shows.
new MutationObserver(() => {
  for (const each of document.querySelectorAll("nav.md-code__nav:not([role])")) each.setAttribute("role", "none");
  for (const each of document.querySelectorAll('.md-version__current[aria-label="Select version"]')) {
    each.setAttribute("aria-label", `${each.textContent.trim()}: select version`);
  }
}).observe(document.documentElement, { childList: true, subtree: true });

if (typeof mermaid !== "undefined") {
  mermaid.initialize({
    startOnLoad: false, theme: "base", flowchart: { useMaxWidth: false }, sequence: { useMaxWidth: false },
    themeVariables: { primaryColor: "#eaf1f8", primaryBorderColor: "#1f4e79", lineColor: "#44566b", edgeLabelBackground: "#fff", clusterBkg: "#f7f9fb", clusterBorder: "#9fb2c6" },
  });
  mermaid.run({ querySelector: ".diagram" });
}
