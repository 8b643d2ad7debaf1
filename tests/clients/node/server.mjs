// Where the server is, and what is asked of it.

export const url = process.env.JARVIS_CLIENTS_URL;
export const key = process.env.JARVIS_CLIENTS_KEY;
export const baseURL = `${url}/v1`;

export const cities = ["Rome", "Oslo"];
