// A device: the official client, told what to do by lines of JSON on standard input; it answers each
// with one line of JSON. Run where node_modules has @actual-app/api:
//   node client.js URL LOCAL_DIRECTORY PASSWORD
// Commands: {"do": "make", name, transactions} {"do": "open", name} {"do": "add", transactions, notes}
// {"do": "sync"} {"do": "count"} {"do": "budgets"} {"do": "download", group, password?}
// {"do": "encrypt", password} {"do": "offline"} {"do": "reset-sync"} {"do": "delete", name}
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const root = path.join(process.cwd(), 'node_modules', '@actual-app', 'api');
const api = require(root);

const [, , url, local, password] = process.argv;
const answer = value => process.stdout.write(JSON.stringify(value) + '\n');
// The client logs to the console; only answers go to standard output.
for (const name of ['log', 'info', 'warn', 'debug', 'error']) {
  console[name] = (...words) => process.stderr.write(words.map(String).join(' ') + '\n');
}

function transactions(count, notes) {
  return Array.from({ length: count }, (_, i) => ({
    date: `2025-0${1 + (i % 9)}-1${i % 10}`,
    amount: -(1000 + i),
    payee_name: `Shop ${i % 7}`,
    notes: `${notes} ${i}`,
  }));
}

async function account() {
  return (await api.getAccounts())[0].id;
}

async function main() {
  fs.mkdirSync(local, { recursive: true });
  const started = await api.init({ dataDir: local, serverURL: url, password });
  const send = (api.internal || started).send;
  const find = async name => (await api.getBudgets()).find(budget => budget.name === name && budget.id);
  const commands = {
    async make({ name, transactions: count }) {
      await api.runImport(name, async () => {
        const id = await api.createAccount({ name: 'Checking', type: 'checking' }, 0);
        await api.addTransactions(id, transactions(count, name));
      });
      const uploaded = await send('upload-budget');
      await api.sync();
      return { uploaded, budgets: await api.getBudgets() };
    },
    async open({ name }) {
      await api.loadBudget((await find(name)).id);
      return {};
    },
    async add({ transactions: count, notes }) {
      await api.addTransactions(await account(), transactions(count, notes));
      return {};
    },
    async sync() {
      const result = await send('sync');
      return { error: (result && result.error) || null };
    },
    async count() {
      const all = await api.getTransactions(await account(), '2020-01-01', '2030-01-01');
      return { transactions: all.length, notes: all.map(one => one.notes).sort() };
    },
    async budgets() {
      return { budgets: await api.getBudgets() };
    },
    async download({ group, password: key }) {
      await api.downloadBudget(group, key ? { password: key } : undefined);
      return {};
    },
    async encrypt({ password: key }) {
      const made = await send('key-make', { password: key });
      const synced = await send('sync');
      return { made: made || null, error: (synced && synced.error) || null };
    },
    async 'reset-sync'() {
      return { result: (await send('sync-reset')) || null };
    },
    async delete({ name }) {
      const budget = (await api.getBudgets()).find(one => one.name === name);
      return { result: await send('delete-budget', { id: budget.id, cloudFileId: budget.cloudFileId }) };
    },
  };
  answer({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      answer({ ok: await commands[command.do](command) });
    } catch (error) {
      const fields = { message: error.message, reason: error.reason, meta: error.meta };
      answer({ failed: { ...fields, stack: error.stack } });
    }
  }
  await api.shutdown();
}

main().catch(error => {
  process.stderr.write(`${error && error.stack}\n`);
  process.exit(1);
});
