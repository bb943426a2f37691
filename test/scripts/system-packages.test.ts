import { expect, test } from "bun:test";
import { formatMissing, parseInstalled, SYSTEM_PACKAGES } from "../../scripts/system-packages.ts";

test("only packages whose files are there count as installed", () => {
  const output = [
    "bash installed",
    "runc config-files",
    "crun not-installed",
    "dpkg-query: no packages found matching umoci",
    "",
  ].join("\n");
  expect([...parseInstalled(output)]).toEqual(["bash"]);
});

test("every package has a probe and a use, and stands once", () => {
  expect(new Set(SYSTEM_PACKAGES.map((item) => item.name)).size).toBe(SYSTEM_PACKAGES.length);
  for (const item of SYSTEM_PACKAGES) {
    expect(item.name).toMatch(/^[a-z0-9][a-z0-9+.-]+$/);
    expect(item.probe).not.toBe("");
    expect(item.usedBy).not.toBe("");
  }
});

test("what is missing is said with its use and the command", () => {
  expect(formatMissing([{ name: "runc", probe: "runc", usedBy: "compared with runc" }])).toBe(
    [
      "these system packages are missing, and tests that use them will fail:",
      "  runc                       compared with runc",
      "as root: apt-get install runc",
    ].join("\n"),
  );
});
