/** The entry of the executable: the short way of a plain run, or the command line and its exit code. */

import { shortWay } from "./cli/lane.ts";

await shortWay();
const { main } = await import("./cli/main.ts");
process.exitCode = await main();
