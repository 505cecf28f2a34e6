// Refreshes a part of a page while it is looked at: [data-refresh] is asked for every [data-seconds],
// with the version that is shown, and replaced when there is another.
"use strict";

for (const part of document.querySelectorAll("[data-refresh]")) {
  const pause = 1000 * Number(part.dataset.seconds);
  let version = "";

  const refresh = async () => {
    if (document.hidden || part.contains(document.activeElement)) return; // nothing moves under a hand
    const answer = await fetch(part.dataset.refresh, {
      headers: version ? { "If-None-Match": version } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(10_000),
    });
    if (answer.redirected) return location.reload(); // logged out: log in, and come back here
    if (!answer.ok) return;
    version = answer.headers.get("ETag") ?? "";
    const text = await answer.text();
    if (!part.contains(document.activeElement)) part.innerHTML = text;
  };

  const again = () => refresh().catch(() => {}).finally(() => setTimeout(again, pause));
  setTimeout(again, pause);
}
