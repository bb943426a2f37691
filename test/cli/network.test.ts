/** --network host shares the host's name files too; --network none has nothing but loopback. */

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { BUSYBOX, eachCaller, expectSuccess } from "./hutch.ts";

const FILES = ["/etc/resolv.conf", "/etc/hosts", "/etc/services", "/etc/nsswitch.conf"].filter((path) =>
  existsSync(path),
);
const cat = (...files: readonly string[]) => ["/bin/busybox", "cat", ...files];
const contents = FILES.map((path) => readFileSync(path, "utf8")).join("");

eachCaller("--network", (bench) => {
  test("host: the host's files in scratch and in a directory, where a link stands too", async () => {
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, "--network", "host", "scratch", ...cat(...FILES)]), contents);
    const root = bench.folder({
      "bin/busybox": "",
      "etc/hosts": "the root's own\n",
      "etc/resolv.conf": { link: "../run/systemd/resolve/stub-resolv.conf" },
    });
    expectSuccess(await bench.hutch(["run", ...BUSYBOX, "--network", "host", root, ...cat(...FILES)]), contents);
    expect(readFileSync(`${root}/etc/hosts`, "utf8")).toBe("the root's own\n");
    expect(existsSync(`${root}/run`)).toBe(false);
  });

  test("host: they cannot be written, and a volume of the user's covers them", async () => {
    const script = "echo x > /etc/resolv.conf || echo refused";
    const shell = ["/bin/busybox", "sh", "-c", script];
    const result = await bench.hutch(["run", ...BUSYBOX, "--network", "host", "scratch", ...shell]);
    expect(result.stdout).toBe("refused\n");
    const folder = bench.folder({ hosts: "mine\n" });
    const volume = ["-v", `${folder}/hosts:/etc/hosts:ro`];
    expectSuccess(
      await bench.hutch(["run", ...BUSYBOX, "--network", "host", ...volume, "scratch", ...cat("/etc/hosts")]),
      "mine\n",
    );
  });

  test("host: a directory that is shown itself keeps its own files", async () => {
    const root = bench.folder({
      "bin/busybox": "",
      "etc/hosts": "the root's own\n",
      proc: { directory: true },
      dev: { directory: true },
    });
    const args = ["run", ...BUSYBOX, "--network", "host", "--read-only", root, ...cat("/etc/hosts")];
    expectSuccess(await bench.hutch(args), "the root's own\n");
  });

  test("host: names are resolved by the host's files", async () => {
    const script = "import socket; print(socket.gethostbyname('localhost'), socket.getservbyname('https'))";
    const args = ["run", "--add", "/usr/bin/python3", "--network", "host", "scratch", "/usr/bin/python3", "-c", script];
    expectSuccess(await bench.hutch(args), "127.0.0.1 443\n");
  });

  test("none: no resolver, no service, no route", async () => {
    const script = "ls /etc; cat /proc/net/route | wc -l; cat /proc/net/dev | grep -c :";
    const shell = ["/bin/busybox", "sh", "-c", script.replaceAll(/(^|[;|] )(?=[a-z])/g, "$1busybox ")];
    const result = await bench.hutch(["run", ...BUSYBOX, "-e", "PATH=/bin", "scratch", ...shell]);
    expect(result.stdout.split("\n").slice(0, 5)).toEqual(["group", "hostname", "hosts", "nsswitch.conf", "passwd"]);
    expect(result.stdout.split("\n").slice(5, 7)).toEqual(["1", "1"]);
  });
});
