/** Which values a reward may have: the rules of the Python client's `reward_values.py`. */
/** The greatest value, either way: beyond it whole numbers are not exact, and squares do not fit. */
export declare const MAX_VALUE = 1000000000000000;
/** What a reward must be, as a bundle says it. */
export interface Reward {
    metric: string;
    kind: string;
    minimum: number | null;
    maximum: number | null;
    window_seconds: number;
    /** False: of a single deployment, whose values are any numbers or truths. */
    declared?: boolean;
}
/** Throws TypeError for a value or a metric that no reward can have. */
export declare function checkAnyReward(value: unknown, metric: unknown): void;
/** Throws TypeError for a value that a decision with these rules can't have. */
export declare function checkReward(value: number | boolean, metric: string | null, rules: Reward): void;
