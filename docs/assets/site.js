// Wide tables and blocks scroll by themselves; this lets the keyboard scroll them too.
addEventListener("load", () => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) each.tabIndex = 0;
});

if (typeof mermaid !== "undefined") {
  mermaid.initialize({ startOnLoad: false });
  mermaid.run({ querySelector: ".diagram" });
}
