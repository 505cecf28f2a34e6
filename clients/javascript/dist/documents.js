/** What is sent and answered, by the names that the HTTP API has. */
export {};
