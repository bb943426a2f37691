/**
 * plan(): Spec and HostFacts → the ordered steps of a sandbox. Pure: the order is data, and stands here.
 *
 * launcher  1. leave the host's mounts                                (root only)
 *           2. hold the id maps in a namespace of their own           (ranges only)
 *           3. clone the sources, as the host's root, and stage them   (root only: so read-only is locked inside)
 *           4. clone all other namespaces, from within the first
 * sandbox   5. time offsets, ids
 *           6. mounts private; clone the sources; assemble the root; attach everything in order
 *           7. names, loopback; no more user namespaces; mask /proc; pivot
 *           8. die with the launcher
 * program   9. limits, ids, capabilities, directory, no_new_privs, descriptors, landlock, filter, execve
 */

import type { HostFacts } from "./facts.ts";
import { NAMESPACE_STEPS } from "./namespaces/index.ts";
import { hideSteps, mountSteps, openSources, procTree, sealSteps, sources, takeSources } from "./namespaces/mount.ts";
import { pidSteps } from "./namespaces/pid.ts";
import { timeSteps } from "./namespaces/time.ts";
import { holdIds, idPlan, userSteps } from "./namespaces/user.ts";
import { processSteps } from "./process/process.ts";
import { allowsUserNamespaces, securityOf } from "./process/security.ts";
import type { NamespaceName, Spec } from "./spec.ts";
import type { Action, Actor, Plan, Step } from "./step.ts";

/** Make the plan. The Spec has been validated (validate.ts); nothing is thrown here. */
export function plan(spec: Spec, host: HostFacts): Plan {
  const steps: Step[] = [];
  const add = (by: Actor, why: string | undefined, actions: readonly (Action & { why?: string })[]) => {
    for (const action of actions) steps.push({ ...action, by, why: action.why ?? why ?? "default" });
  };
  const { words } = spec;
  const ids = idPlan(spec, host);
  const staged = ids.idmappedMounts ? host.workspace : undefined;
  const from = sources(spec, host, ids.idmappedMounts);
  const has = (name: NamespaceName) => spec.namespaces.includes(name);

  if (spec.startAs !== undefined && host.root) add("launcher", words["idMap"], [{ op: "become", ...spec.startAs }]);
  else if (ids.kind === "self" && host.root && host.groups.length > 0)
    add("launcher", undefined, [{ op: "drop-groups" }]);
  if (staged !== undefined) add("launcher", undefined, [{ op: "leave-mounts" }]);
  add("launcher", words["idMap"], holdIds(ids, host));
  if (staged !== undefined) {
    // What shows owners as they are comes first: meanwhile the namespace that translates the others comes up.
    const [plain, translated] = [from.filter(({ idmapped }) => !idmapped), from.filter(({ idmapped }) => idmapped)];
    add("launcher", undefined, openSources([...plain, ...translated]));
    add("launcher", undefined, [{ op: "stage", directory: staged, trees: from }]);
  } else if (ids.kind === "held") add("launcher", undefined, [{ op: "enter-ids" }]);
  const cloned = spec.namespaces.filter((name) => name !== "time" && !(name === "user" && ids.kind === "held"));
  add("launcher", words["namespaces"], [{ op: "clone", namespaces: cloned }]);

  // Without a terminal, or with one of its own, nothing is lost by leaving the caller's session.
  const terminal = spec.process.terminal === true;
  const leaves = terminal ? spec.init : spec.session === true || !host.terminal;
  if (leaves) add("sandbox", undefined, [{ op: "session" }]);
  // Before the ids: a process whose uid has changed is not dumpable, and may not open its own files below /proc.
  if (has("time")) add("sandbox", words["timeOffsets"], timeSteps(spec));
  add("sandbox", words["idMap"] ?? words["user"], userSteps(ids));
  add("sandbox", undefined, [{ op: "private-mounts" }]);
  add("sandbox", undefined, takeSources(from, staged));
  add("sandbox", undefined, mountSteps(spec, host));
  for (const [name, namespaceSteps] of NAMESPACE_STEPS) {
    if (has(name)) for (const step of namespaceSteps(spec)) add("sandbox", words[step.op], [step]);
  }
  // Inside this user namespace, and so without a way back once capabilities are gone (namespaces(7), /proc/sys/user).
  const tree = procTree(spec);
  if (tree !== undefined && !allowsUserNamespaces(securityOf(spec)))
    add("sandbox", words["security"], [{ op: "write", tree, path: "sys/user/max_user_namespaces", text: "0" }]);
  add("sandbox", undefined, hideSteps(spec));
  add("sandbox", undefined, sealSteps(spec));
  add("sandbox", undefined, [{ op: "pivot" }]);
  if (spec.init) add("sandbox", undefined, pidSteps());

  if (terminal) add("program", words["terminal"], [{ op: "controlling-terminal" }]);
  else if (leaves && spec.init) add("program", undefined, [{ op: "process-group" }]);
  const last = processSteps(spec, host, ids.kind);
  const closing = last.findIndex(({ op }) => op === "no-new-privileges" || op === "close-descriptors");
  add("program", undefined, last.slice(0, closing));
  if (!spec.init) add("program", undefined, pidSteps()); // after the last change of ids
  add("program", undefined, last.slice(closing));
  return { steps, init: spec.init };
}
