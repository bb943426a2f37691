/** `--network host`: the files by which programs find names and services are the host's, as the network is. */

import { pathStatus } from "../libc/files.ts";
import type { RootView } from "./closure-layout.ts";
import type { HostPath, Mount, SandboxPath } from "../spec.ts";

/** resolv.conf(5), hosts(5), services(5), nsswitch.conf(5). */
const NETWORK_FILES = ["/etc/resolv.conf", "/etc/hosts", "/etc/services", "/etc/nsswitch.conf"] as const;

const MAX_LINKS = 40;

/**
 * Those of the files that the host has, as read-only binds. A link on the host (systemd-resolved's /etc/resolv.conf) is
 * followed on the host when it is bound. Where the root, as `look` tells, has
 * a link, the file goes where the link leads inside of it.
 */
export function networkMounts(look: RootView, from: string): readonly Mount[] {
  return NETWORK_FILES.filter((path) => isFile(path)).map((path) => ({
    type: "bind",
    source: path as string as HostPath,
    destination: linkEnd(path, (name) => {
      const entry = look(name);
      return entry.kind === "symlink" ? entry.to : -1;
    }) as SandboxPath,
    attributes: ["ro", "nosuid", "nodev", "noexec"],
    idmap: false,
    optional: true, // a root of somebody else's may leave no room for what it does not have
    from,
  }));
}

function isFile(path: string): boolean {
  const found = pathStatus(path);
  return typeof found !== "number" && found.kind === "file";
}

/** Where links lead from a path, one after another, whether something is there or not; never above `/`. */
export function linkEnd(path: string, readLink: (path: string) => string | number): string {
  let at = path;
  for (let links = 0; links < MAX_LINKS; links++) {
    const to = readLink(at);
    if (typeof to !== "string" || to === "") return at;
    at = tidy(to.startsWith("/") ? to : `${at.slice(0, at.lastIndexOf("/"))}/${to}`);
  }
  return path;
}

function tidy(path: string): string {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return `/${names.join("/")}`;
}
