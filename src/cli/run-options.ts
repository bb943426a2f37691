/** The options of `hutch run` and `hutch plan`, in docker's words. */

import type { ArgsDef } from "citty";

export const RUN_OPTIONS = {
  env: {
    type: "string",
    alias: "e",
    valueHint: "K=V|K",
    description: "set a variable, or take the caller's (repeatable)",
  },
  "env-file": { type: "string", valueHint: "FILE", description: "read variables from a file (repeatable)" },
  workdir: { type: "string", alias: "w", valueHint: "DIR", description: "working directory, made when missing [/]" },
  user: {
    type: "string",
    alias: "u",
    valueHint: "UID[:GID]|NAME[:GROUP]",
    description: "user inside; names are the root's own [0:0]",
  },
  hostname: { type: "string", alias: "h", valueHint: "NAME", description: "host name [hutch]" },
  domainname: { type: "string", valueHint: "NAME", description: "NIS domain name [(none)]" },
  volume: {
    type: "string",
    alias: "v",
    valueHint: "SRC:DST[:OPTIONS]",
    description: "bind SRC: ro, rw (default), nosuid, nodev, noexec (repeatable)",
  },
  mount: { type: "string", valueHint: "type=bind|tmpfs,…", description: "a mount in docker's long form (repeatable)" },
  tmpfs: {
    type: "string",
    valueHint: "DST[:OPTIONS]",
    description: "an empty tmpfs: size=, mode=, nr_inodes=, ro, noexec, … (repeatable)",
  },
  add: {
    type: "string",
    valueHint: "PROGRAM",
    description: "a host program with what it needs, at the same path (repeatable)",
  },
  "add-path": {
    type: "string",
    valueHint: "PATH",
    description: "a host file or directory at the same path, read-only (repeatable)",
  },
  "read-only": { type: "boolean", description: "the root read-only, bound with what is mounted below it" },
  writable: { type: "boolean", description: "let the program change ROOT itself" },
  network: { type: "string", valueHint: "none|host", description: "no network but loopback, or the host's [none]" },
  init: { type: "boolean", description: "a reaper is PID 1 (the default)" },
  "no-init": { type: "boolean", description: "the program itself is PID 1" },
  userns: { type: "string", valueHint: "auto", description: "use the caller's ranges of /etc/subuid and /etc/subgid" },
  "cap-add": { type: "string", valueHint: "CAP|ALL", description: "keep a capability (repeatable)" },
  "cap-drop": { type: "string", valueHint: "CAP|ALL", description: "drop a capability (repeatable)" },
  security: {
    type: "string",
    valueHint: "default|strict|nested|none",
    description: "how much is taken from the program [default]",
  },
  seccomp: {
    type: "string",
    valueHint: "FILE|none",
    description: "a system call filter in OCI's, docker's or podman's JSON instead of the profile's",
  },
  "seccomp-fd": { type: "string", valueHint: "N", description: "a compiled filter (BPF) from a descriptor" },
  ulimit: {
    type: "string",
    valueHint: "NAME=SOFT[:HARD]",
    description: "a resource limit, such as nofile=1024 (repeatable)",
  },
  "preserve-fds": { type: "string", valueHint: "N", description: "pass N descriptors after 2 on" },
  "time-offset": {
    type: "string",
    valueHint: "SECONDS|monotonic=S,boottime=S",
    description: "move the program's clocks (time namespace)",
  },
  tty: { type: "boolean", alias: "t", description: "a terminal of the sandbox's own (-it too)" },
  json: { type: "string", valueHint: "FILE|fd:N", description: "write how it ended as one line of JSON" },
  interactive: { type: "boolean", alias: "i", description: "accepted: stdin is always passed on" },
  rm: { type: "boolean", description: "accepted: nothing is ever left behind" },
  detach: { type: "boolean", alias: "d", description: "not there: hutch says what to do instead" },
  name: { type: "string", valueHint: "NAME", description: "not there: hutch says what to do instead" },
  publish: { type: "string", alias: "p", valueHint: "PORTS", description: "not there: hutch says what to do instead" },
  help: { type: "boolean", description: "show this" },
} as const satisfies ArgsDef;
