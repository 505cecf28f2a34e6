/** The arm of a request, of a unit that keeps one too. */
import type { Bundle, Context } from "./bundle.js";
import { type Route, type Uniform } from "./choosing.js";
import type { KeptArm, State } from "./state.js";
/** `kept`: of a unit that keeps an arm, how that was drawn. */
export interface Assigned {
    route: Route;
    kept: KeptArm | null;
}
/** Null where no arm is left. */
export declare function assigned(bundle: Bundle, units: Pick<State, "arm">, unit: string | null, context: Context | null, excluded: ReadonlySet<number>, uniform: Uniform): Promise<Assigned | null>;
