/** The entry of the executable: nothing but starting the command line and passing its exit code on. */

import { main } from "./cli/main.ts";

process.exitCode = await main();
