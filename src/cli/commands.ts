/** The commands of `hutch`, and the applets that it is when called by another name. They are loaded only when they are used. */

import type { Command } from "./command.ts";

export interface Entry {
  readonly summary: string;
  readonly hidden?: boolean;
  readonly load: () => Promise<Command>;
}

export const COMMANDS: Readonly<Record<string, Entry>> = {
  run: {
    summary: "run a command in a sandbox",
    load: async () => (await import("./run-command.ts")).run,
  },
  plan: {
    summary: "show what run would do, step by step",
    load: async () => (await import("./run.ts")).showPlan,
  },
  closure: {
    summary: "list what a program of this machine needs to run",
    load: async () => (await import("./closure.ts")).closure,
  },
  root: {
    summary: "write programs with what they need as a directory",
    load: async () => (await import("./root.ts")).root,
  },
  doctor: {
    summary: "say what this machine can do, and what mends the rest",
    load: async () => (await import("./doctor.ts")).doctor,
  },
  selftest: {
    summary: "try attacks from inside a sandbox, and say which were held",
    load: async () => (await import("./selftest.ts")).selftest,
  },
  seccomp: {
    summary: "check a seccomp profile, and decide calls by it",
    load: async () => (await import("./seccomp.ts")).seccomp,
  },
  pull: {
    summary: "bring images into the store",
    load: async () => (await import("./pull.ts")).pull,
  },
  login: {
    summary: "keep a password for a registry",
    load: async () => (await import("./login.ts")).login,
  },
  logout: {
    summary: "forget the password for a registry",
    load: async () => (await import("./logout.ts")).logout,
  },
  images: {
    summary: "list the images of the store",
    load: async () => (await import("./images.ts")).images,
  },
  inspect: {
    summary: "show what is known of images, as JSON",
    load: async () => (await import("./inspect.ts")).inspect,
  },
  history: {
    summary: "show how an image was made",
    load: async () => (await import("./history.ts")).history,
  },
  tag: {
    summary: "give an image of the store another name",
    load: async () => (await import("./tag.ts")).tag,
  },
  rmi: {
    summary: "remove images from the store",
    load: async () => (await import("./rmi.ts")).rmi,
  },
  prune: {
    summary: "free what no image needs",
    load: async () => (await import("./prune.ts")).prune,
  },
  save: {
    summary: "write images as an archive",
    load: async () => (await import("./save.ts")).save,
  },
  load: {
    summary: "read images from an archive",
    load: async () => (await import("./load.ts")).load,
  },
  import: {
    summary: "make an image of a root file system in a tar archive",
    load: async () => (await import("./import.ts")).importCommand,
  },
  layers: {
    summary: "list what run --persist keeps",
    load: async () => (await import("./layers.ts")).layers,
  },
  diff: {
    summary: "show what a layer that is kept changes of its root",
    load: async () => (await import("./diff.ts")).diff,
  },
  rm: {
    summary: "remove layers that are kept",
    load: async () => (await import("./rm.ts")).rm,
  },
  mydocker: {
    summary: "run IMAGE COMMAND with as few words as possible",
    load: async () => (await import("./mydocker.ts")).mydocker,
  },
  "nix-build-shell": {
    summary: "enter the sandbox that a Nix build failed in",
    load: async () => (await import("./nix-build-shell.ts")).nixBuildShell,
  },
  "end-nix-session": {
    summary: "tidy up after nix-build-shell",
    hidden: true,
    load: async () => (await import("./nix-session-end.ts")).endNixSession,
  },
  "end-disk-layer": {
    summary: "remove the writable layer of a sandbox that has ended",
    hidden: true,
    load: async () => (await import("./disk-layer.ts")).endDiskLayer,
  },
  "remove-sessions": {
    summary: "remove what a sandbox has on disk whose hutch was killed",
    hidden: true,
    load: async () => (await import("./guarded-directory.ts")).removeSessions,
  },
  "remove-name": {
    summary: "remove the name of a sandbox whose launcher was killed",
    hidden: true,
    load: async () => (await import("./running.ts")).removeName,
  },
  ps: {
    summary: "list running sandboxes that have a name",
    load: async () => (await import("./ps.ts")).ps,
  },
  exec: {
    summary: "run another command in a sandbox that has a name",
    load: async () => (await import("./exec.ts")).exec,
  },
  kill: {
    summary: "send a signal to a sandbox that has a name",
    load: async () => (await import("./kill.ts")).kill,
  },
  "in-ranges": {
    summary: "work on the store as root of a range of ids",
    hidden: true,
    load: async () => (await import("./in-ranges.ts")).inRanges,
  },
  "explain-failure": {
    summary: "say what a launcher reported",
    hidden: true,
    load: async () => (await import("./explain-failure.ts")).explain,
  },
};
