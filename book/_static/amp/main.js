// Turns the widgets on; play.js imports this where it can work.

import { Bench } from "./bench.js";
import { Live } from "./live.js";

customElements.define("tinyamp-bench", Bench);
customElements.define("tinyamp-live", Live);
