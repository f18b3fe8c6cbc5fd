// The pages about the books: their parts are drawn by the server and follow the events.
import { startShell } from "./shell.js";

startShell("").live.start();
